"""Synthetic people: a seeded data set drawn without a download."""
