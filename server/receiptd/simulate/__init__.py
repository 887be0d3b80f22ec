"""Plays providers: posts what they would post."""
