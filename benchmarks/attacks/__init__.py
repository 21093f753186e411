"""Benchmarks of hostile requests and files."""
