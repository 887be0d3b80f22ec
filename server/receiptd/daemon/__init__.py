"""How receiptd runs: the service assembled, its processes, sockets, signals and privileges."""
