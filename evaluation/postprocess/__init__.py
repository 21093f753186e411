"""Embeddings of a test set -> better ones, without labels and without training: camera normalisation, neighbours."""
