"""receiptd receives SMS delivery receipts and keeps every one of them."""

__version__ = "0.2.0"
