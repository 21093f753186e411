"""Galleries to and from other programs: plain files, Qdrant, FiftyOne."""
