"""What receiptd is compared with: servers that anyone would write, each the best of its kind."""
