"""What re-ID adds to a vision transformer: side information, jigsaw, position embeddings."""
