"""Records -> batches on the device: decode, cache, sample, load."""
