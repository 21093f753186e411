"""Several processes: process group, failures, DDP, FSDP, consistency checks."""
