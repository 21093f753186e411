"""Backbones: images -> features; timm's and ours."""
