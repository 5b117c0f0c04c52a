"""Every pattern over every transport: what the README's table claims."""
