"""What a `Consumer` is made of: settings, verdicts, message groups, leases, acks, and the session that runs them."""
