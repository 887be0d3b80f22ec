"""The operator's pages at /console, behind a login of their own, and the page for people at /."""
