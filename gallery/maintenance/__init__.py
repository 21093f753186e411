"""Verify, merge, compact, compress and convert galleries; pool tracklets."""
