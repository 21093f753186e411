"""What people have decided about who is who: links between rows, groups that keep to them, and what to ask next."""
