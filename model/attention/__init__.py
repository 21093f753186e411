"""Attention of a model as maps over its patches."""
