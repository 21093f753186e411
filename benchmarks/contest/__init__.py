"""The evaluation benchmark: contestants, cases, rounds, table."""
