"""The benchmarks run, and what they measure against answers as it should."""
