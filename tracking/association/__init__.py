"""Which box continues which track: motion, overlap, appearance, assignment."""
