"""Attention maps of a model over its patches."""
