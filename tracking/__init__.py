"""From a recording to crops: frames -> boxes -> tracks -> crops."""
