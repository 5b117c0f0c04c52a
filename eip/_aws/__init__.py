"""What drivers and stores share of Amazon's SDK: its sessions, and the fast path of the calls made most."""
