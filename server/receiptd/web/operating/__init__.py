"""Pages for whoever operates the server: health and metrics."""
