"""What a `Consumer` is made of; `session` puts the parts together."""
