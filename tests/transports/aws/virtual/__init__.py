"""What needs no server, in virtual time."""
