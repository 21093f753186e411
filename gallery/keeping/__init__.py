"""Keep a gallery over months: keys of rows, removed rows that stay removed, updates, retention, audit. Imports no torch."""
