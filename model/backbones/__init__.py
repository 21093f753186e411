"""Networks: images -> features, timm's and our own."""
