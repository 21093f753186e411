"""Readers of published data sets, held to their published counts."""
