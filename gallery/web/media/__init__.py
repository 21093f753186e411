"""Images and videos that the web server reads from uploads and sends from files."""
