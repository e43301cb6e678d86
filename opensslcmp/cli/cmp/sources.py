"""What options name: passwords, keys, certificates, requests, distinguished names, lists of files.

Source: openssl-passphrase-options(1), openssl-cmp(1), openssl-namedisplay-options(1).
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from opensslcmp.cli.cmp.arguments import Arguments, items
from opensslcmp.cli.cmp.log import Log
from opensslcmp.cli.exits import InputError
from opensslcmp.cli.files import read_secret
from opensslcmp.context.certificates import load_certificates
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.names import is_object, make_name
from opensslcmp.errors import OpenSSLError

__all__ = ["Sources"]

T = TypeVar("T")
_KINDS = ("pass:", "env:", "file:", "fd:")


class Sources:
    """Reads what the options name.

    Args:
        arguments: the options.
        log: warns of what is odd.
    """

    def __init__(self, arguments: Arguments, log: Log) -> None:
        self._arguments = arguments
        self._log = log
        self._passwords: dict[str, bytes] = {}

    def password(self, option: str) -> bytes | None:
        """What a password source gives; None where the option is not given. Each is read once.

        Raises:
            InputError: the source does not exist. (``openssl cmp`` would take the words ``env:NAME`` for the password.)
        """
        source = self._arguments.text(option)
        if source is None:
            return None
        if option not in self._passwords:
            if source.startswith("pass:"):
                self._passwords[option] = os.fsencode(source.removeprefix("pass:"))
            elif source.startswith(_KINDS) or source == "stdin":
                self._passwords[option] = read_secret(source, f"-{option}")
            else:
                self._log.warn(f"-{option} is taken for the password itself; better put pass: before it")
                self._passwords[option] = os.fsencode(source)
        return self._passwords[option]

    def certificates(self, option: str, password_option: str = "otherpass") -> list[bytes]:
        """DER of the certificates in all files that an option lists.

        Raises:
            InputError: a file cannot be read or holds none.
        """
        return [
            der
            for item in items(self._arguments.text(option))
            for der in self._loaded(item, option, password_option, load_certificates)
        ]

    def certificate(self, option: str, password_option: str = "otherpass") -> list[bytes]:
        """DER of the certificates in the one file that an option names, the important one first; none without it.

        Raises:
            InputError: it cannot be read or holds none.
        """
        source = self._arguments.text(option)
        return [] if source is None else self._loaded(source, option, password_option, load_certificates)

    def key(self, option: str, password_option: str) -> PrivateKey | None:
        """The private key that an option names; None without it.

        Raises:
            InputError: it cannot be read.
        """
        source = self._arguments.text(option)
        return None if source is None else self._loaded(source, option, password_option, PrivateKey.load)

    def public_key(self, option: str) -> bytes | None:
        """SubjectPublicKeyInfo of the public key in a file; None when there is none in it.

        Raises:
            InputError: it cannot be read.
        """
        data = self.read(option)
        for load in (load_pem_public_key, load_der_public_key):
            try:
                return load(data).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            except (ValueError, UnsupportedAlgorithm):
                continue
        return None

    def csr(self, option: str) -> bytes | None:
        """DER of the PKCS#10 request that an option names; None without it.

        Raises:
            InputError: it is none.
        """
        if self._arguments.text(option) is None:
            return None
        data = self.read(option)
        try:
            load = x509.load_pem_x509_csr if b"-----BEGIN" in data else x509.load_der_x509_csr
            return load(data).public_bytes(Encoding.DER)
        except ValueError as error:
            raise InputError(f"-{option}: not a PKCS#10 request: {error}") from None

    def crl(self, option: str) -> x509.CertificateRevocationList | None:
        """The CRL that an option names; None without it.

        Raises:
            InputError: it is none.
        """
        if self._arguments.text(option) is None:
            return None
        data = self.read(option)
        try:
            return (x509.load_pem_x509_crl if b"-----BEGIN" in data else x509.load_der_x509_crl)(data)
        except ValueError as error:
            raise InputError(f"-{option}: not a CRL: {error}") from None

    def name(self, option: str) -> bytes | None:
        """DER of the distinguished name ``/type=value/...`` that an option gives; None without it.

        Raises:
            InputError: it is not in that form.
        """
        text = self._arguments.text(option)
        if text is None:
            return None
        if not text.startswith("/"):
            raise InputError(f"-{option}: a name has the form /type=value/type=value..., unlike '{text}'")
        attributes = []
        for kind, value, joined in _attributes(text[1:], option):
            if not is_object(kind):
                self._log.warn(f"-{option}: unknown type of attribute {kind}: left out")
            elif not value:
                self._log.warn(f"-{option}: no value for {kind}: left out")
            else:
                attributes.append((kind, value, joined))
        try:
            return make_name(attributes)
        except (OpenSSLError, ValueError) as error:
            raise InputError(f"-{option}: {error}") from None

    def read(self, option: str) -> bytes:
        """The content of the file that an option names.

        Raises:
            InputError: it cannot be read.
        """
        path = self._arguments.text(option) or ""
        try:
            return Path(path.removeprefix("file:")).read_bytes()
        except OSError as error:
            raise InputError(f"-{option}: {error.strerror}: {path}") from None

    def _loaded(self, source: str, option: str, password_option: str, load: Callable[[str, bytes | None], T]) -> T:
        """What ``load`` makes of a file or URI; asks for a password where one is missing, and a terminal is there."""
        if source.startswith("org.openssl.engine:"):
            raise InputError(f"-{option}: engines are gone from OpenSSL; use -provider and a URI such as pkcs11:")
        password = self.password(password_option)
        try:
            return load(source, password)
        except OSError as error:
            raise InputError(f"-{option}: {error.strerror}: {source}") from None
        except (OpenSSLError, ValueError) as error:
            if password is None and self._may_ask():
                self._passwords[password_option] = getpass.getpass(f"Password of -{option} {source}: ").encode()
                self._arguments.values[password_option] = "pass:"
                return self._loaded(source, option, password_option, load)
            raise InputError(f"-{option}: {source}: {error}") from None

    def _may_ask(self) -> bool:
        return not self._arguments.has("batch") and self._has_terminal()

    @staticmethod
    def _has_terminal() -> bool:
        return sys.stdin is not None and sys.stdin.isatty()


def _attributes(text: str, option: str) -> list[tuple[str, str, bool]]:
    """Type, value and whether a plus sign stands before, of ``type=value/type=value+type=value``."""
    found: list[tuple[str, str, bool]] = []
    at, joined = 0, False
    while at < len(text):
        equals = text.find("=", at)
        if equals < 0:
            raise InputError(f"-{option}: there is no = after '{text[at:]}'")
        kind, value, at = text[at:equals].strip(), "", equals + 1
        while at < len(text) and text[at] not in "/+":
            if text[at] == "\\":
                at += 1
                if at == len(text):
                    raise InputError(f"-{option}: a backslash ends the name")
            value += text[at]
            at += 1
        found.append((kind, value, joined))
        joined = at < len(text) and text[at] == "+"
        at += 1
    return found
