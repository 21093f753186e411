"""Tracks as files: MOT text, an annotated video, sheets to see mistakes, crops by identity, a manifest."""
