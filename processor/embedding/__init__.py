"""A weight file -> an embedder; images -> embeddings."""
