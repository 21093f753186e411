"""A gallery stored in Milvus."""
