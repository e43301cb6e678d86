"""With what a party proves who it is: a shared secret, or a certificate and its private key, which signs or decapsulates."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = [
    "CertificateSource",
    "Credential",
    "KemCredential",
    "KeySource",
    "MacParameters",
    "Password",
    "SharedSecret",
    "Signer",
]

CertificateSource: TypeAlias = Any
"""A certificate: ``cryptography.x509.Certificate``, PEM or DER bytes, or a path."""

KeySource: TypeAlias = Any
"""A private key: a ``cryptography`` private key, PEM or DER bytes, a path, or a provider URI (``pkcs11:``, ``file:``)."""

Password: TypeAlias = "bytes | str | os.PathLike[str] | Callable[[], bytes | str | None] | None"
"""A password, a function that is asked for it, or the path of a file whose first line it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MacParameters:
    """How a MAC is made.

    Attributes:
        scheme: ``pbm`` (PasswordBasedMac; RFC 9810, 5.1.3.1) or ``pbmac1`` (PBKDF2 and HMAC; RFC 9481, 6.1.2).
        owf: hash that turns the secret into a key; for ``pbmac1`` the hash in PBKDF2's HMAC.
        mac: ``hmac-sha256``, ``hmac-sha384``, ``hmac-sha512``, ``hmac-sha1``...
        iterations: how often ``owf`` is applied.
        salt_length: in bytes.
        key_length: of ``pbmac1``, 20 to 64 bytes; None for what fits ``mac``.
    """

    owf: str = "SHA256"
    mac: str = "hmac-sha256"
    iterations: int = 1024
    salt_length: int = 16
    scheme: str = "pbm"
    key_length: int | None = None


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """A reference and the secret that both ends know under it (RFC 9810, 5.1.3.1).

    Args:
        reference: sent as senderKID; text is encoded as UTF-8.
        secret: never shown by repr.
        parameters: how the MAC is made.
    """

    reference: bytes
    secret: bytes = field(repr=False)
    parameters: MacParameters = MacParameters()

    def __init__(self, reference: bytes | str, secret: bytes | str, *, parameters: MacParameters | None = None) -> None:
        object.__setattr__(self, "reference", reference.encode() if isinstance(reference, str) else bytes(reference))
        object.__setattr__(self, "secret", secret.encode() if isinstance(secret, str) else bytes(secret))
        object.__setattr__(self, "parameters", parameters or MacParameters())
        if not self.reference or not self.secret:
            raise ValueError("reference and secret must not be empty")


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate, its private key and the chain that is sent along (RFC 9810, 5.1.3.3).

    Args:
        certificate: the signer's own certificate.
        key: its private key, never shown by repr; a provider URI stays with the provider.
        chain: issuing certificates, the issuer of ``certificate`` first.
        password: opens an encrypted ``key`` or a token, never shown by repr; a function that is asked for it, or the path of
            a file whose first line it is.
        digest: hash of the signatures, or None for what fits the key.
        pss: RSASSA-PSS with an RSA key.
    """

    certificate: CertificateSource
    key: KeySource = field(repr=False)
    chain: Sequence[CertificateSource] = ()
    password: Password = field(default=None, repr=False)
    digest: str | None = None
    pss: bool = False


@dataclass(frozen=True, slots=True)
class KemCredential:
    """A certificate of a key encapsulation mechanism, its private key and the chain (RFC 9810, 5.1.3.4).

    Each transaction establishes a secret, under which its messages carry a MAC.

    Args:
        certificate: of an ML-KEM key, or of an RSA key (RSA-KEM, RFC 9690) with the key usage keyEncipherment.
        key: its private key, never shown by repr.
        chain: issuing certificates, the issuer of ``certificate`` first.
        password: opens an encrypted ``key``, as for ``Signer``; never shown by repr.
        kdf: ``hkdf-sha256``, ``hkdf-sha384``, ``hkdf-sha512`` or ``kdf3-sha256``.
        mac: ``hmac-sha256``, ``hmac-sha384``, ``hmac-sha512``, ``kmac128`` or ``kmac256``.
    """

    certificate: CertificateSource
    key: KeySource = field(repr=False)
    chain: Sequence[CertificateSource] = ()
    password: Password = field(default=None, repr=False)
    kdf: str = "hkdf-sha256"
    mac: str = "hmac-sha256"


Credential: TypeAlias = SharedSecret | Signer | KemCredential
