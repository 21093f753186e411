"""Exports into a gallery that is there: new rows are added, removed ones stay out, missing ones are reported."""
