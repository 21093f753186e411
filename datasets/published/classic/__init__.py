"""Readers of small and older data sets, of occluded people, and of images for training only."""
