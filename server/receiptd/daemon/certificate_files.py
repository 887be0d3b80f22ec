"""TLS at the start: the certificate files of the configuration, and the site under TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from receiptd.config import Tls
from receiptd.daemon.listener import ListenError

if TYPE_CHECKING:
    from receiptd.web.server.certificates import Files, Material
    from receiptd.web.server.site import Site


def certificate_files(tls: Tls, reactor: Any, changed: Callable[[Material], object]) -> Files:
    """The certificate files of `tls`, watched for changes.

    :param changed: called with the new certificates when the files have changed.
    :raises ListenError: if they cannot be used.
    """
    # OpenSSL's bindings take a while to import.
    from receiptd.web.server.certificates import Files, TlsError

    try:
        return Files(tls, reactor, changed)
    except TlsError as error:
        raise ListenError(f"server.tls: {error}") from None


class SecureSite:
    """The site under TLS, and its certificates."""

    def __init__(self, tls: Tls, site: Site, reactor: Any, material: Material | None) -> None:
        """
        :param material: the certificates, if a supervisor watches their files; None to watch
            them here.
        :raises ListenError: if the files cannot be used.
        """
        # OpenSSL's bindings take a while to import.
        from receiptd.web.server.certificates import expires
        from receiptd.web.server.tls import Certificates

        self.files: Files | None = None
        """None if a supervisor watches the files."""
        if material is None:
            self.files = certificate_files(tls, reactor, self.use)
            material = self.files.material
        self._certificates = Certificates(material)
        self.expires = expires(material)
        """When the certificate ends (aware, UTC)."""
        self.factory = self._certificates.factory(site)
        """Serves the site under TLS."""

    def use(self, material: Material) -> None:
        """Use these certificates for connections that come from now on."""
        from receiptd.web.server.certificates import expires

        self._certificates.use(material)
        self.expires = expires(material)

    def start(self) -> None:
        """Begin to watch the files."""
        if self.files is not None:
            self.files.start()

    def stop(self) -> None:
        """Stop watching the files."""
        if self.files is not None:
            self.files.stop()
