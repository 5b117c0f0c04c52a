"""Reference applications and short examples."""
