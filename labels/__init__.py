"""The field's labels, one rule for every room: who is junk, camera names, column names, names written by other programs."""
