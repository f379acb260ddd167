"""historian.demo: a simulated plant, and the feed that writes it to a server."""
