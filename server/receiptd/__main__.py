"""Makes `python -m receiptd` the command line."""

from receiptd.cli import main

main(prog_name="receiptd")
