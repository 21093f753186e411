"""Commands on recordings, and the options that they share."""
