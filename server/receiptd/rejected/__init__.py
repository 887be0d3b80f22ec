"""Rejected posts, tried again: read under today's configuration, and stored as receipts."""
