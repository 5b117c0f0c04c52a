"""Consumers, relays, brokers and databases killed at random, on every path that promises something (`make chaos`)."""
