"""What a provider is to receiptd: posts in, receipts out; verdicts in, a reply out.

A provider's module is pure: it knows nothing of Twisted or SQL. It is found through the
entry-point group `receiptd.providers`, the built-in ones too, so that a package of somebody
else's adds one without a change here.
"""

from receiptd.providers.endpoint import Endpoint, NoOptions, ProviderOptions, Secrets, revealed
from receiptd.providers.fields import Fields, Ignored, Invalid, Unverified
from receiptd.providers.loading import GROUP, ProviderError, load, named, names
from receiptd.providers.post import Post
from receiptd.providers.provider import Code, Item, Provider, Reply
from receiptd.providers.signed import SignedProvider

__all__ = [
    "GROUP",
    "Code",
    "Endpoint",
    "Fields",
    "Ignored",
    "Invalid",
    "Item",
    "NoOptions",
    "Post",
    "Provider",
    "ProviderError",
    "ProviderOptions",
    "Reply",
    "Secrets",
    "SignedProvider",
    "Unverified",
    "load",
    "named",
    "names",
    "revealed",
]
