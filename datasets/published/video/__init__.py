"""Readers of data sets of video, whose items are tracklets."""
