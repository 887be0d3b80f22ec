"""Keeps secrets out of what is stored and logged: by the name of a field, and by value.

A PIN is blanked by its name, also a wrong one (`by_name`). Every configured PIN, password and
token is blanked by its value as well, wherever a post has it and however it is written
(`by_value`).
"""

BLANK_TEXT = "***"
"""What stands in place of a secret."""
BLANK = BLANK_TEXT.encode()
