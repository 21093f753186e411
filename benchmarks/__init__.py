"""What the README's figures rest on: each benchmark is one command, takes --quick and --json, and says what it skipped."""
