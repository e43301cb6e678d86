"""Patterns of X.500 names: who is meant, without listing everybody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from opensslcmp.asn1 import decode

__all__ = ["NamePattern", "matches_any"]

_MORE = {
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "dnQualifier": NameOID.DN_QUALIFIER,
    "title": NameOID.TITLE,
}
"""Beside the short names of RFC 4514, 3; any other type is written as a dotted OID."""


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A Name as RFC 4514 writes it, whose values may have ``*``, ``?`` and ``[...]`` as a shell has them.

    It is compared attribute by attribute, in any case: ``CN=*,O=Example`` has exactly these two, and a comma inside a
    commonName does not pass for the end of it, as it may in a regular expression over the text. ``*`` alone is any name.

    Raises:
        ValueError: the text is no Name.
    """

    text: str
    _rdns: tuple[frozenset[tuple[str, str]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rdns: tuple[frozenset[tuple[str, str]], ...] = ()
        if self.text != "*":
            try:
                rdns = _rdns_of(x509.Name.from_rfc4514_string(self.text, _MORE))
            except ValueError:
                raise ValueError(f"{self.text} is not a name such as CN=*,O=Example") from None
            if not rdns:
                raise ValueError("an empty name")
        object.__setattr__(self, "_rdns", rdns)

    @classmethod
    def from_toml(cls, value: Any, directory: Path) -> NamePattern:
        """From a string in a file of settings."""
        if not isinstance(value, str):
            raise ValueError("is not a name such as CN=*,O=Example")
        try:
            return cls(value)
        except ValueError as error:
            raise ValueError(f"has what is no name: {error}") from None

    def matches(self, name: bytes) -> bool:
        """Whether the DER of a Name is one of these. An empty one never is."""
        rdns = _rdns(name)
        if self.text == "*":
            return bool(rdns)
        return bool(rdns) and len(rdns) == len(self._rdns) and all(map(_rdn_matches, self._rdns, rdns))


def _rdn_matches(pattern: frozenset[tuple[str, str]], rdn: frozenset[tuple[str, str]]) -> bool:
    if len(pattern) != len(rdn) or len(rdn) != len({oid for oid, _ in rdn}):
        return False
    found = dict(rdn)
    return all(oid in found and fnmatchcase(found[oid], value) for oid, value in pattern)


def _rdns_of(name: x509.Name) -> tuple[frozenset[tuple[str, str]], ...]:
    return tuple(
        frozenset((each.oid.dotted_string, " ".join(str(each.value).casefold().split())) for each in rdn)
        for rdn in name.rdns
    )


@lru_cache(maxsize=512)
def _rdns(name: bytes) -> tuple[frozenset[tuple[str, str]], ...]:
    try:
        return _rdns_of(decode(x509.Name, name))
    except ValueError:
        return ()


def matches_any(patterns: Iterable[NamePattern], name: bytes | None) -> bool:
    """Whether one of the patterns is of this Name (DER); never when there is none."""
    return name is not None and any(each.matches(name) for each in patterns)
