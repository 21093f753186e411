"""Data sets on disk -> records; their splits, merges and distractors."""
