"""Measures receiptd against what else one could run, and by the numbers it is to reach."""
