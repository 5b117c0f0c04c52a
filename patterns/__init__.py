"""The patterns, one module each, named as in the book; import them by module: `eip.patterns.scatter_gather`."""
