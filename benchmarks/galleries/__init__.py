"""Benchmarks of galleries besides search: who is who, recall of Milvus."""
