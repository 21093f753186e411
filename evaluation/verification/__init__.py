"""Same person or not: ROC, thresholds and open-set search over pairs."""
