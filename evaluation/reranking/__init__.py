"""The ranking improved by neighbours: k-reciprocal re-ranking, query expansion."""
