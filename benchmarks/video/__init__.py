"""Benchmarks of recordings: decoding, detectors, tracks."""
