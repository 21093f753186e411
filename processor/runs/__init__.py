"""Run folders: files, lock, checkpoints, random states, signals, console."""
