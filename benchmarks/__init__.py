"""Benchmarks: programs, one command each; see docs/benchmarks.md."""
