"""Weight files: read safely, recognised, fitted to the model, reported, written."""
