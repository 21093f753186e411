"""What the benchmarks share: command line, hardware, checkouts, isolated processes."""
