"""What the linked OpenSSL can do, and which published holes it has.

>>> features().level in {"3.0", "3.2", "3.3", "3.4", "3.5"}
True
"""

import json
import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path

from opensslcmp._native import IMPLEMENTATION, ffi, lib
from opensslcmp._native.levels import LEVEL, has
from opensslcmp._native.providers import provider_names
from opensslcmp._version import __version__

__all__ = ["Features", "Vulnerability", "features", "vulnerabilities"]

NOTE = "judged by the upstream version number: a distribution's own patches cannot be seen in it"

SINCE = {
    "ca_certificates": "3.2",
    "root_ca_update": "3.2",
    "revocation_by_serial_number": "3.2",
    "pvno_3": "3.2",
    "eddsa_and_pss_protection": "3.2",
    "use_tls_option": "3.2",
    "validated_server": "3.2",
    "delayed_delivery": "3.3",
    "certificate_profile": "3.3",
    "general_info_getter": "3.3",
    "no_cache_extra_certs": "3.3",
    "crl_update": "3.4",
    "certificate_request_template": "3.4",
    "central_key_generation": "3.5",
    "enveloped_data": "3.5",
}
"""What ``libcrypto``'s own CMP brought, and in which version. Our own layers offer most of it on every version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vulnerability:
    """A published hole in OpenSSL's CMP, CRMF or HTTP code, or in CMS as far as CMP uses it.

    Attributes:
        id: the CVE number, or a name where none was given.
        text: what goes wrong.
        affected: whether the loaded version has it, by its upstream version number; None when that number is newer than
            the table.
        covered: whether this package keeps a peer from reaching it.
        how: by what.
    """

    id: str
    text: str
    affected: bool | None
    covered: bool
    how: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """A report on the package and what it runs on, for people and for bug reports.

    Attributes:
        opensslcmp: version of the package.
        extension: ``"system"``, compiled against the system's OpenSSL, or ``"binary"``, of the wheel opensslcmp-binary with
            an OpenSSL of its own.
        compiled: OpenSSL version of the headers.
        loaded: OpenSSL version that runs, in its own words.
        level: feature level of the headers: ``"3.0"``, ``"3.2"``, ``"3.3"``, ``"3.4"`` or ``"3.5"``.
        has: for each feature of libcrypto's own CMP whether it is there.
        vulnerabilities: published holes and what we do about them.
        note: how far ``vulnerabilities`` can be trusted.
        python: version of the interpreter.
        implementation: of the interpreter.
        providers: the providers of the process's own library that are active.
        modules: provider modules that are installed beside the library, such as ``fips``, ``legacy`` and ``pkcs11``.
        fips: whether the FIPS provider is active.
        pkcs11: whether keys in a token can be used: the provider ``pkcs11`` is active or installed.
        cffi: version.
        cryptography: version.
    """

    opensslcmp: str
    extension: str
    compiled: str
    loaded: str
    level: str
    has: dict[str, bool]
    vulnerabilities: tuple[Vulnerability, ...]
    note: str
    python: str
    implementation: str
    providers: tuple[str, ...]
    modules: tuple[str, ...]
    fips: bool
    pkcs11: bool
    cffi: str
    cryptography: str

    def to_json(self, indent: int | None = 2) -> str:
        """The report as JSON text."""
        return json.dumps(asdict(self), indent=indent)


@dataclass(frozen=True, slots=True)
class _Known:
    id: str
    text: str
    introduced: tuple[int, int, int]
    fixed: dict[tuple[int, int], int]
    covered: bool
    how: str


EXAMINED = {(3, 0): 22, (3, 5): 9, (3, 6): 3, (4, 0): 3}
"""The newest release of each line that the table was made from."""

KNOWN = (
    _Known(
        "CVE-2026-63076",
        "password-based MAC parameters that are no SEQUENCE crash any receiver, unauthenticated",
        (3, 0, 0),
        {(3, 0): 22, (3, 5): 8, (4, 0): 2},
        True,
        "the gate refuses such parameters before libcrypto sees the message, in both roles",
    ),
    _Known(
        "CVE-2026-63073",
        "a sender name that differs from the expected one is used as a format string",
        (3, 2, 0),
        {(3, 5): 8, (4, 0): 2},
        True,
        "the sender is compared before libcrypto sees the answer",
    ),
    _Known(
        "CVE-2026-63074",
        "extraCerts of unauthenticated messages pile up in the context",
        (3, 0, 0),
        {(3, 0): 22, (3, 5): 8, (4, 0): 2},
        True,
        "the gate bounds extraCerts; each transaction has a context of its own; the server does without",
    ),
    _Known(
        "CVE-2026-42767",
        "an incomplete EncryptedValue in an answer makes the client follow a NULL pointer",
        (3, 0, 0),
        {(3, 5): 7, (3, 6): 3, (4, 0): 1},
        True,
        "an encrypted certificate that does not tell its algorithm and key is refused before libcrypto sees it",
    ),
    _Known(
        "CVE-2026-42769",
        "a root CA key update is accepted from anybody",
        (3, 2, 0),
        {(3, 5): 7, (3, 6): 3, (4, 0): 1},
        True,
        "OSSL_CMP_get1_rootCaKeyUpdate is not called on these versions",
    ),
    _Known(
        "CVE-2026-75805",
        "revCerts in the answer to a revocation by CSR make the client follow a NULL pointer",
        (3, 0, 0),
        {(3, 5): 9, (4, 0): 3},
        True,
        "libcrypto is asked for no revocation by CSR",
    ),
    _Known(
        "CVE-2026-84783",
        "first use of one certificate by two threads at once uses freed memory",
        (3, 0, 0),
        {(4, 0): 3},
        True,
        "certificates are used once before they are shared",
    ),
    _Known(
        "CVE-2026-63072",
        "opening an EnvelopedData with an AES key wrap writes 8 bytes beyond a buffer",
        (3, 5, 0),
        {(3, 5): 8, (4, 0): 2},
        False,
        "CMP opens one since 3.5, where a key from the CA is asked for (popo none), and only of a verified answer",
    ),
    _Known(
        "CVE-2026-42768",
        "opening an EnvelopedData of several recipients tells about its RSA padding (Bleichenbacher)",
        (3, 5, 0),
        {(3, 5): 7, (3, 6): 3, (4, 0): 1},
        False,
        "CMP opens one since 3.5, where a key from the CA is asked for (popo none), and only of a verified answer",
    ),
    _Known(
        "CVE-2026-34182",
        "an AuthEnvelopedData with a short tag may be forged",
        (3, 5, 0),
        {(3, 5): 7, (3, 6): 3, (4, 0): 1},
        True,
        "CMP's fields are EnvelopedData, and nothing decodes them as AuthEnvelopedData",
    ),
    _Known(
        "CVE-2025-9232",
        "the HTTP client reads out of bounds in the no_proxy environment variable",
        (3, 0, 16),
        {(3, 0): 18, (3, 2): 6, (3, 3): 5, (3, 4): 3, (3, 5): 4, (3, 6): 0, (4, 0): 0},
        False,
        "use an OpenSSL that has the fix, or set no no_proxy for IPv6 servers",
    ),
    _Known(
        "caPubs poisoning",
        "a client that shares a secret with a server plants a CA into the server's trust store",
        (3, 0, 0),
        {},
        True,
        "no trust store is shared: each context has its own; the gate admits requests only to a server",
    ),
)


def vulnerabilities(loaded: tuple[int, int, int]) -> tuple[Vulnerability, ...]:
    """Published holes, judged for the OpenSSL version ``loaded``."""
    line, patch = loaded[:2], loaded[2]
    found = []
    for known in KNOWN:
        affected: bool | None = loaded >= known.introduced
        if affected and line in known.fixed:
            affected = patch < known.fixed[line]
        elif affected and ((line not in EXAMINED and line > max(EXAMINED)) or patch > EXAMINED.get(line, patch)):
            affected = None
        found.append(
            Vulnerability(id=known.id, text=known.text, affected=affected, covered=known.covered, how=known.how)
        )
    return tuple(found)


@cache
def features() -> Features:
    """What there is. The same object each time.

    Source: OpenSSL_version(3), OPENSSL_VERSION_NUMBER(3).
    """
    providers, modules = provider_names(), _modules()
    return Features(
        providers=providers,
        modules=modules,
        fips="fips" in providers,
        pkcs11="pkcs11" in providers or "pkcs11" in modules,
        opensslcmp=__version__,
        extension=IMPLEMENTATION,
        compiled=_text(_numbers(lib.OPENSSL_VERSION_NUMBER)),
        loaded=ffi.string(lib.OpenSSL_version(0)).decode(),
        level=LEVEL,
        has={name: has(since) for name, since in SINCE.items()},
        vulnerabilities=vulnerabilities(_numbers(lib.OpenSSL_version_num())),
        note=NOTE,
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        cffi=version_of("cffi"),
        cryptography=version_of("cryptography"),
    )


def _modules() -> tuple[str, ...]:
    """The provider modules in OpenSSL's directory for them (OPENSSL_MODULES(7))."""
    text = ffi.string(lib.OpenSSL_version(_MODULES_DIR)).decode()
    place = os.environ.get("OPENSSL_MODULES") or text.partition('"')[2].rpartition('"')[0]
    try:
        return tuple(sorted(path.stem for path in Path(place).iterdir() if path.suffix in {".so", ".dylib"}))
    except OSError:
        return ()


_MODULES_DIR = 8  # OPENSSL_MODULES_DIR of crypto.h


def _numbers(version: int) -> tuple[int, int, int]:
    return version >> 28, version >> 20 & 0xFF, version >> 4 & 0xFFFF


def _text(numbers: tuple[int, int, int]) -> str:
    return ".".join(map(str, numbers))
