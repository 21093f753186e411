"""Upkeep: verify, merge, compact, compress, pool tracklets, other file formats."""
