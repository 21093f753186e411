"""Files, locks, text, prefetch, memory limits and pictures: the parts that know nothing of re-ID."""
