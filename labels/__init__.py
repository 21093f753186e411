"""The field's labels, one rule for every room: who is junk, the settings of an evaluation, camera names, column names, names written by other programs."""
