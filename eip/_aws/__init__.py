"""Amazon's SDK as drivers and stores share it: its sessions, and the fast path of the calls made most."""
