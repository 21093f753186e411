"""Re-ranking by neighbours: k-reciprocal re-ranking, query expansion, database-side augmentation."""
