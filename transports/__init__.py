"""Drivers, one folder each; what they share is `eip.channels`."""
