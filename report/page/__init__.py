"""The page's building blocks: components, charts, images."""
