"""What receiptd counts, and the text that Prometheus reads."""
