"""historian.server: HTTP and WebSocket."""
