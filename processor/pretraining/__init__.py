"""Self-supervised pre-training of a ViT on crops without labels: DINO and iBOT."""
