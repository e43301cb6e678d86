"""Configuration files in OpenSSL's syntax, read by libcrypto itself: config(5), x509v3_config(5), NCONF_load(3)."""

from __future__ import annotations

import os
from typing import Any

from opensslcmp._native import ffi, lib
from opensslcmp._native.memory import decode, encode, own
from opensslcmp._native.queue import clear, drain
from opensslcmp.errors import OpenSSLError

__all__ = ["Config", "default_config_path"]


class Config:
    """One file, with what it includes.

    Raises:
        OpenSSLError: it cannot be read, or breaks the syntax; the text names the line.

    Source: NCONF_load(3).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        clear()
        line = ffi.new("long *")
        pointer = lib.opensslcmp_config_load(os.fsencode(path), line)
        if not pointer:
            where = f"{os.fspath(path)}, line {line[0]}" if line[0] > 0 else os.fspath(path)
            raise OpenSSLError(drain(), f"{where}: the configuration file cannot be read")
        self._ptr: Any = own(pointer, lib.NCONF_free)

    def __contains__(self, section: object) -> bool:
        found = bool(lib.opensslcmp_config_has(self._ptr, str(section).encode()))
        clear()
        return found

    def get(self, section: str, name: str) -> str | None:
        """The value of a name in a section, in ``default`` where the section has none, or None.

        Source: NCONF_get_string(3).
        """
        found = lib.NCONF_get_string(self._ptr, section.encode() if section else ffi.NULL, name.encode())
        clear()
        return ffi.string(found).decode("utf-8", "surrogateescape") if found else None

    def extensions(self, section: str, csr: bytes | None = None) -> bytes:
        """The extensions that a section describes: Extensions in DER.

        Args:
            section: its name.
            csr: a PKCS#10 request in DER, whose key ``subjectKeyIdentifier=hash`` is about.

        Raises:
            OpenSSLError: there is no such section, or it does not describe extensions.

        Source: x509v3_config(5).
        """
        request = ffi.NULL if csr is None else decode(lib.d2i_X509_REQ, lib.X509_REQ_free, csr)
        clear()
        made = lib.opensslcmp_config_extensions(self._ptr, section.encode(), request)
        if not made:
            raise OpenSSLError(drain(), f"section [{section}] does not describe extensions")
        return encode(lib.i2d_X509_EXTENSIONS, own(made, lib.opensslcmp_extensions_free))


def default_config_path() -> str:
    """The file that OpenSSL reads: $OPENSSL_CONF, or ``openssl.cnf`` in its directory.

    Source: CONF_get1_default_config_file(3).
    """
    found = lib.CONF_get1_default_config_file()
    try:
        return os.fsdecode(ffi.string(found)) if found else ""
    finally:
        lib.opensslcmp_free(found)
