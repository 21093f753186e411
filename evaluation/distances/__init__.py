"""Distances of all queries to the gallery, in blocks of rows; products of centred embeddings."""
