"""Re-ID parts of a vision transformer: side information (SIE), jigsaw (JPM), position embeddings, last block."""
