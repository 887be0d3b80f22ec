"""Providers' posts come in here."""
