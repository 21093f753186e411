"""Boxes with track ids -> tracklets: the best crops of each track, and what is known of it."""
