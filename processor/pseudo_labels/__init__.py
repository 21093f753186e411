"""Training without labels: clusters of the training images as classes, made anew in rounds."""
