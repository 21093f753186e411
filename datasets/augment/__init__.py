"""Training augmentation, drawn per image and applied per batch."""
