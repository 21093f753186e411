"""Files that somebody else may have made: opened, and measured before memory is taken."""
