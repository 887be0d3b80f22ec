"""Registering the messages that an application has sent."""
