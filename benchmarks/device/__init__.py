"""The parts of `python benchmarks/gpu.py`: what a GPU has to show, a module per theme."""
