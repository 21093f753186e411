"""Test sets -> figures: evaluator, rankings, thresholds, tables, saved features."""
