"""Tensor names of other projects -> ours: one file per family, one dict of all of them in `recognise_project`."""
