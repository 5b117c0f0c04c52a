"""STOMP 1.2: frames, one connection, and a connection that is replaced when it is lost."""
