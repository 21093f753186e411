"""Commands that make the published tables again."""
