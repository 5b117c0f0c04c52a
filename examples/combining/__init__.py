"""Buses, topics and queues combined: what each is for; each file runs as it is and prints what its docstring says."""
