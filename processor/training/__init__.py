"""Training: session, trainer, micro-batches, profiling."""
