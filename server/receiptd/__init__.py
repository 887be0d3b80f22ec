"""receiptd receives SMS delivery receipts and keeps every one of them."""

__version__ = "0.1.0"
