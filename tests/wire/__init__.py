"""Golden vectors: what each version of the wire format writes, and that every other version reads it."""
