"""What stands before the routes of the web server: limits, checks of every request, connections, a bounded log."""
