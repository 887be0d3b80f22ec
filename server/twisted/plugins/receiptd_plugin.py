"""Makes `twistd receiptd` known to twistd; what it does is in `receiptd.daemon.twistd`."""

from twisted.application.service import ServiceMaker

receiptd = ServiceMaker(
    "receiptd",
    "receiptd.daemon.twistd",
    "Receives SMS delivery receipts and keeps them.",
    "receiptd",
)
