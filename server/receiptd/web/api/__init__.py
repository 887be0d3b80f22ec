"""The HTTP API: registering messages, and reading back what is stored."""
