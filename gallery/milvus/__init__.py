"""A gallery kept by Milvus."""
