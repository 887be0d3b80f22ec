"""What every provider that signs its posts with a secret has in common.

The secrets are an option of the endpoint, one or several. Where there is none, posts are not
checked; where there are several, one of them has made the signature; simulated posts are signed
with the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from receiptd.providers.endpoint import revealed
from receiptd.providers.post import Post
from receiptd.providers.provider import Provider


class SignedProvider(Provider):
    """A provider whose posts bear a signature. A subclass names the option with the secrets and
    overrides `check_signature`; `with_signature` too, where `receiptd simulate` is to sign."""

    signed_by: ClassVar[str]
    """Name of the option that has the secrets: a field of `Options` of the type `Secrets`."""

    def check_signature(self, post: Post, secrets: Sequence[bytes]) -> None:
        """Check that the signature of `post` was made with one of `secrets`, of which there is
        at least one.

        :raises Unverified: where it is missing, wrong or too old.
        """
        raise NotImplementedError

    def with_signature(self, post: Post, secret: bytes) -> Post:
        """`post` signed with `secret`, as the provider would sign it."""
        return post

    @property
    def signing_secrets(self) -> list[bytes]:
        """The secrets that are configured."""
        return revealed(getattr(self.endpoint.options, self.signed_by, ()))

    @property
    def signed(self) -> bool:
        """Whether a secret is configured."""
        return bool(self.signing_secrets)

    def verify(self, post: Post) -> None:
        """Check the signature, where a secret is configured."""
        if secrets := self.signing_secrets:
            self.check_signature(post, secrets)

    def sign(self, post: Post) -> Post:
        """Sign with the first secret that is configured."""
        secrets = self.signing_secrets
        return self.with_signature(post, secrets[0]) if secrets else post


def signing_option(what: str, checked_by: str, example: str, plural: str = "") -> Any:
    """The field of such an option.

    :param what: the secret, as the vendor calls it.
    :param checked_by: what posts are then checked by, such as the name of a header.
    :param plural: what a list of several is for, where that is not a change of the secret.
    """
    several = plural or "Also a list, while it is changed."
    return Field(
        default=[],
        description=f"{what}: posts are then checked by {checked_by}. {several}",
        examples=[example],
    )
