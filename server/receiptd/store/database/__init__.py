"""Connections to the database, what its errors mean, locks and turns."""
