"""Forwarding: what was stored is handed on to the destinations that the configuration names.

`events` says what is told; `lanes`, `breaker` and `schedule` decide, without any input or output,
what is sent when; `destinations/` know how; `sender` has it all work together for a destination,
in a process of its own (`process`), which the daemon starts and looks after (`supervision`).
"""
