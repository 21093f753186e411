"""Search: query vectors, filters, exact and approximate neighbours, results."""
