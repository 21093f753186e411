"""Models to hand out: a folder with weights, config and card, and its upload to the Hugging Face hub."""
