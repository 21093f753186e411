"""Which rows of a gallery show one person: groups, new or known people, training data. Imports torch, through `evaluation`."""
