"""The HTTP server: connections, requests, answers, limits, TLS."""
