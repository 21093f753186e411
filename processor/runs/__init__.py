"""Run folders: files, log, lock, checkpoints, random states, signals."""
