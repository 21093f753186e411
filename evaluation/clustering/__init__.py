"""Groups of crops without labels: a sparse graph of shared neighbours, clustering with constraints, figures of a clustering."""
