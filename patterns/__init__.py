"""Enterprise integration patterns, one module each, on the core's interfaces only."""
