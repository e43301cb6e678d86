"""The files that a transaction leaves behind.

As ``openssl cmp`` does it: written in place, certificates one after the other, an empty file for an empty list; a file for
one certificate that did not come is removed, so that none of an earlier run is taken for it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.cli.cmp.arguments import Arguments
from opensslcmp.cli.cmp.log import Log
from opensslcmp.cli.exits import InputError, UsageError

__all__ = ["Results"]

_FORMS = {"PEM": Encoding.PEM, "DER": Encoding.DER, "ASN1": Encoding.DER}


class Results:
    """Writes certificates, CRLs and keys.

    Args:
        arguments: the options.
        log: told of each file.

    Raises:
        UsageError: a form that is none.
    """

    def __init__(self, arguments: Arguments, log: Log) -> None:
        self._arguments = arguments
        self._log = log
        self._certificate_form = _form(arguments, "certform", "PEM")
        self._crl_form = _form(arguments, "crlform", "DER")

    def certificates(self, option: str, ders: Sequence[bytes], what: str) -> None:
        """Write a list to the file that an option names, if it is given.

        Raises:
            InputError: it cannot be written.
        """
        path = self._arguments.path(option)
        if path is not None:
            self._log.info(f"received {len(ders)} {what} certificate(s), saving to file '{path}'")
            self._write(path, b"".join(self._certificate(der) for der in ders))

    def certificate_or_none(self, option: str, der: bytes | None, what: str) -> None:
        """Write one certificate, or remove the file of an earlier run.

        Raises:
            InputError: it cannot be written.
        """
        if der is not None:
            self.certificates(option, [der], what)
        else:
            self._remove(option, what)

    def crl_or_none(self, option: str, der: bytes | None) -> None:
        """Write a CRL, or remove the file of an earlier run.

        Raises:
            InputError: it cannot be written.
        """
        path = self._arguments.path(option)
        if der is None:
            self._remove(option, "CRL")
        elif path is not None:
            self._log.info(f"received CRL, saving to file '{path}'")
            self._write(path, x509.load_der_x509_crl(der).public_bytes(self._crl_form))

    def data_or_none(self, option: str, data: bytes | None, what: str) -> None:
        """Write DER as it is, or remove the file of an earlier run.

        Raises:
            InputError: it cannot be written.
        """
        path = self._arguments.path(option)
        if data is None:
            self._remove(option, what)
        elif path is not None:
            self._log.info(f"received {what}, saving to file '{path}'")
            self._write(path, data)

    def key(self, option: str, pem: bytes) -> None:
        """Write a private key, in a file that only its owner can read.

        Raises:
            InputError: it cannot be written.
        """
        path = self._arguments.path(option)
        if path is not None:
            self._write(path, pem, secret=True)

    def _certificate(self, der: bytes) -> bytes:
        return x509.load_der_x509_certificate(der).public_bytes(self._certificate_form)

    def _remove(self, option: str, what: str) -> None:
        path = self._arguments.path(option)
        if path is not None:
            self._log.info(f"received no {what}; removing '{path}' if there is one")
            with suppress(FileNotFoundError):
                path.unlink()

    @staticmethod
    def _write(path: Path, content: bytes, *, secret: bool = False) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            with open(os.open(path, flags, 0o600 if secret else 0o666), "wb") as file:
                file.write(content)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None


def _form(arguments: Arguments, option: str, default: str) -> Encoding:
    form = (arguments.text(option) or default).upper()
    if form not in _FORMS:
        raise UsageError(f"-{option} is PEM or DER")
    return _FORMS[form]
