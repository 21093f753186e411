"""One measurement per process: training steps, data loading."""
