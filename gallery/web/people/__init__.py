"""Who is who over HTTP: groups, questions, decisions, and whom an image shows."""
