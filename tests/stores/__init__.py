"""Stores, each put through the same suite."""
