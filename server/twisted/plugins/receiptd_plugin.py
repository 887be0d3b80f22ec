"""Makes `twistd receiptd` known to twistd; what it does is in `receiptd.tap`."""

from twisted.application.service import ServiceMaker

receiptd = ServiceMaker(
    "receiptd", "receiptd.tap", "Receives SMS delivery receipts and keeps them.", "receiptd"
)
