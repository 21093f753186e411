"""Options of self-supervised pre-training."""
