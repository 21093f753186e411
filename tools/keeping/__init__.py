"""The subcommands of `vitreid gallery` that list, add, change and remove rows."""
