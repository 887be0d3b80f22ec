"""Forgetting a person: their phone number out of the database and the spool.

`docs/privacy.md` says what is kept about people, and what this deletes.
"""
