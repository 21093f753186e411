"""Commands about who is who in a gallery."""
