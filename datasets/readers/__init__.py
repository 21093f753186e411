"""Readers of data sets: files -> records; splits, merges and distractors."""
