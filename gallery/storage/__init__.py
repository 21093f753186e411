"""The files of a gallery: embeddings, records, metadata."""
