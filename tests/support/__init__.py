"""Real services for the tests: each is started on free loopback ports and ends with the process that started it."""
