"""The Twisted side: one site with its limits, and what is served on it."""
