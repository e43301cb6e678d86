"""The table ``[server]``: where the server listens, by which certificates, behind which proxies, and what it bounds."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from opensslcmp.server.tables import WrongValue

if TYPE_CHECKING:
    import ssl

__all__ = ["ServerSettings"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings:
    """How the server is reached, and what it bounds. A change needs a restart, but for the content of TLS files.

    Attributes:
        host: address or name to listen on.
        port: 0 picks a free one.
        workers: processes.
        paths: further paths that mean the same as ``/.well-known/cmp``, such as ``/`` or ``/pkix/``.
        tls_certificate: PEM file, the server's certificate first, then its chain; HTTPS instead of HTTP (TLS 1.2 and 1.3).
        tls_key: PEM file of its private key.
        tls_key_password_file: its first line opens the key, where that is encrypted.
        tls_client_ca: PEM file of CAs whose certificates clients may authenticate with.
        tls_client: whether they have to: "none", "optional" or "required"; by default required where there is a
            ``tls_client_ca``.
        trusted_proxies: addresses and networks of reverse proxies, whose Client-Cert (RFC 9440), X-Forwarded-For and
            Forwarded are believed. A proxy has to remove what its clients send under these names.
        max_connections: of a worker; beyond it the one that waits longest for its peer is closed.
        max_connections_per_address: of a worker, for an address that is not a trusted proxy.
        max_queue: messages that wait for their turn; beyond it some are refused with 503.
        max_under_way: messages that are worked on, which wait for an authority mostly.
        max_buffered_bytes: of bodies, of a worker.
        max_header_bytes, max_headers: of a request.
        header_timeout_seconds: for the head of a request.
        read_timeout_seconds: for its body.
        idle_timeout_seconds: for the next request on a connection.
        retry_after_seconds: what who gets 503 is told.
        drain_seconds: for what is under way when the server ends.

    Raises:
        ValueError: a value that makes no sense; the text names it.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    paths: tuple[str, ...] = ()
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_key_password_file: Path | None = None
    tls_client_ca: Path | None = None
    tls_client: Literal["none", "optional", "required"] | None = None
    trusted_proxies: tuple[str, ...] = ()
    max_connections: int = 4096
    max_connections_per_address: int = 2048
    max_queue: int = 1024
    max_under_way: int = 1024
    max_buffered_bytes: int = 64 << 20
    max_header_bytes: int = 16 << 10
    max_headers: int = 64
    header_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 30.0
    idle_timeout_seconds: float = 75.0
    retry_after_seconds: int = 5
    drain_seconds: float = 15.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise WrongValue("is not between 0 and 65535", "port")
        if not 1 <= self.workers <= 256:
            raise WrongValue("is not between 1 and 256", "workers")
        if not all(each.startswith("/") for each in self.paths):
            raise WrongValue("has a path that does not begin with /", "paths")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise WrongValue("is needed beside the other", "tls_key" if self.tls_certificate else "tls_certificate")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise WrongValue("is for a server with tls_certificate", "tls_client_ca")
        if self.tls_client not in {None, "none", "optional", "required"}:
            raise WrongValue("is none, optional or required", "tls_client")
        if self.tls_client in {"optional", "required"} and self.tls_client_ca is None:
            raise WrongValue("needs tls_client_ca", "tls_client")
        for each in self.trusted_proxies:
            try:
                ip_network(each, strict=False)
            except ValueError:
                raise WrongValue(f"has {each}, which is no address or network", "trusted_proxies") from None
        if self.drain_seconds < 0:
            raise WrongValue("is negative", "drain_seconds")
        for name in self.__slots__:
            if name.startswith(("max_", "header_", "read_", "idle_", "retry_")) and getattr(self, name) <= 0:
                raise WrongValue("is not positive", name)

    def tls(self) -> ssl.SSLContext | None:
        """What the TLS files say now; None for plain HTTP.

        Raises:
            ValueError: they do not load; the text names the file.
        """
        if self.tls_certificate is None or self.tls_key is None:
            return None
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        password = b""
        if self.tls_key_password_file is not None:
            try:
                password = self.tls_key_password_file.read_bytes().partition(b"\n")[0].rstrip(b"\r")
            except OSError as error:
                raise ValueError(f"{self.tls_key_password_file}: {error.strerror}") from None
        try:
            # Given a function OpenSSL does not ask on the terminal.
            context.load_cert_chain(self.tls_certificate, self.tls_key, lambda: password)
        except (OSError, ValueError) as error:
            place = f"{self.tls_certificate} with {self.tls_key}"
            raise ValueError(f"{place}: {_words(error, encrypted=not password)}") from None
        asked = self.tls_client or ("required" if self.tls_client_ca else "none")
        if self.tls_client_ca is not None and asked != "none":
            context.verify_mode = ssl.CERT_REQUIRED if asked == "required" else ssl.CERT_OPTIONAL
            try:
                context.load_verify_locations(self.tls_client_ca)
            except OSError as error:
                raise ValueError(f"{self.tls_client_ca}: {_words(error, encrypted=False)}") from None
        return context


def _words(error: Exception, encrypted: bool) -> str:
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return error.strerror or str(error)
    return "not in PEM" + (", or the key is encrypted and tls_key_password_file is not given" if encrypted else "")
