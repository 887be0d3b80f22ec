"""Files that keep receipts while the database does not take them."""
