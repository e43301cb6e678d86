"""What a CA puts into certificates: names, keys, validity, extensions.

A request that asks for more than the profile allows is refused; one that asks for another validity, or for identifiers
that are the CA's to choose, gets what the profile gives and is told what changed.

Source: RFC 5280, 4; RFC 9483, 4.1.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.asn1 import decode_der

from opensslcmp.asn1 import (
    AlgorithmIdentifier,
    BitString,
    Extension,
    decode,
    elements,
    encode,
    read_header,
    wrap,
)
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import Rejected
from opensslcmp.server.names import NamePattern
from opensslcmp.server.tables import WrongValue, near, refuse, url_problem

__all__ = ["KEY_ALGORITHMS", "IssuingProfile", "key_identifier", "key_usage"]

_TEMPLATE = FailureInfo.BAD_CERT_TEMPLATE
_BASIC_CONSTRAINTS = "2.5.29.19"
_KEY_USAGE = "2.5.29.15"
_EXTENDED_KEY_USAGE = "2.5.29.37"
_SAN = "2.5.29.17"
_SKI = "2.5.29.14"
_AKI = "2.5.29.35"
_CDP = "2.5.29.31"
_AIA = "1.3.6.1.5.5.7.1.1"

_CURVES = {
    "1.3.132.0.33": "P-224",
    "1.2.840.10045.3.1.7": "P-256",
    "1.3.132.0.34": "P-384",
    "1.3.132.0.35": "P-521",
} | {
    f"1.3.36.3.3.2.8.1.1.{5 + number}": f"brainpoolP{bits}{form}1"
    for number, (bits, form) in enumerate((bits, form) for bits in (224, 256, 320, 384, 512) for form in "rt")
}
_KEY_TYPES = {
    "1.3.101.112": "ed25519",
    "1.3.101.113": "ed448",
    "2.16.840.1.101.3.4.3.17": "ml-dsa-44",
    "2.16.840.1.101.3.4.3.18": "ml-dsa-65",
    "2.16.840.1.101.3.4.3.19": "ml-dsa-87",
} | {
    f"2.16.840.1.101.3.4.3.{20 + number}": f"slh-dsa-{hash_}-{bits}{how}"
    for number, (hash_, bits, how) in enumerate(
        (hash_, bits, how) for hash_ in ("sha2", "shake") for bits in (128, 192, 256) for how in "sf"
    )
}
_ENCRYPTING = {
    "x25519": ("1.3.101.110", "keyAgreement"),
    "x448": ("1.3.101.111", "keyAgreement"),
    "ml-kem-512": ("2.16.840.1.101.3.4.4.1", "keyEncipherment"),
    "ml-kem-768": ("2.16.840.1.101.3.4.4.2", "keyEncipherment"),
    "ml-kem-1024": ("2.16.840.1.101.3.4.4.3", "keyEncipherment"),
}
"""Keys that sign nothing, and the key usage that their certificates have (RFC 8410, 5; RFC 9935, 3)."""
_KEY_TYPES |= {oid: kind for kind, (oid, _) in _ENCRYPTING.items()}
KEY_ALGORITHMS = {
    "rsa": bytes.fromhex("300d06092a864886f70d0101010500"),
    **{
        f"ec:{curve}": wrap(0x30, bytes.fromhex("06072a8648ce3d0201") + encode(x509.ObjectIdentifier(oid)))
        for oid, curve in _CURVES.items()
    },
    **{kind: wrap(0x30, encode(x509.ObjectIdentifier(oid))) for oid, kind in _KEY_TYPES.items()},
}
"""AlgorithmIdentifier (DER) of the public keys of each type."""
_RSA_KEYS = frozenset(("1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10"))
"""rsaEncryption, and id-RSASSA-PSS for keys that sign in no other way."""
_USAGE_OF_A_CA = 0x0600
"""keyCertSign and cRLSign."""
_USAGES = (
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
)
_EXTENDED_USAGES = {
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
    "ipsecIKE": "1.3.6.1.5.5.7.3.17",
    "cmcCA": "1.3.6.1.5.5.7.3.27",
    "cmcRA": "1.3.6.1.5.5.7.3.28",
    "cmKGA": "1.3.6.1.5.5.7.3.32",
    "anyExtendedKeyUsage": "2.5.29.37.0",
}
"""RFC 5280, 4.2.1.12; RFC 6402, 2.10; RFC 9480, 2.2; RFC 4945, 5.1.3.12."""
_EXTENSIONS = {
    "certificatePolicies": "2.5.29.32",
    "issuerAltName": "2.5.29.18",
    "nameConstraints": "2.5.29.30",
    "policyConstraints": "2.5.29.36",
    "policyMappings": "2.5.29.33",
    "inhibitAnyPolicy": "2.5.29.54",
    "subjectInfoAccess": "1.3.6.1.5.5.7.1.11",
    "tlsFeature": "1.3.6.1.5.5.7.1.24",
    "ocspNoCheck": "1.3.6.1.5.5.7.48.1.5",
}
_MADE_HERE = frozenset((_BASIC_CONSTRAINTS, _KEY_USAGE, _EXTENDED_KEY_USAGE, _SAN, _SKI, _AKI, _CDP, _AIA))


def _is_oid(text: str) -> bool:
    try:
        x509.ObjectIdentifier(text)
    except ValueError:
        return False
    return True


_identifier = lru_cache(maxsize=64)(x509.ObjectIdentifier)


def _extension(oid: str, value: bytes, *, critical: bool = False) -> Extension:
    return Extension(extn_id=_identifier(oid), critical=critical, extn_value=value)


def key_identifier(public_key: bytes) -> bytes:
    """The keyIdentifier of a SubjectPublicKeyInfo (DER): method 1 of RFC 7093, which needs no SHA-1."""
    _, key = _key_parts(public_key)
    return hashlib.sha256(key).digest()[:20]


@lru_cache(maxsize=16)  # asked for by several rules of one request
def _key_parts(public_key: bytes) -> tuple[bytes, bytes]:
    """AlgorithmIdentifier (DER) and key of a SubjectPublicKeyInfo.

    Raises:
        ValueError: it is none.
    """
    (start, middle), (bits, end) = elements(public_key)
    tag, content, _ = read_header(public_key, bits, end)
    if tag != 0x03 or public_key[content] != 0:
        raise ValueError("no BIT STRING of whole octets")
    return public_key[start:middle], public_key[content + 1 : end]


_MAX_NAME_BYTES = 4096  # as the gate takes for sender
_STRINGS = frozenset((0x0C, 0x12, 0x13, 0x14, 0x16, 0x1C, 0x1E))
_PLAIN = re.compile(rb"[\x0c\x13\x16][\x01-\x7f][ -~]+")  # a short string in ASCII, without control characters
_BITS = b"\x06\x03\x55\x04\x2d"  # x500UniqueIdentifier, the one type that is no string


def _check_name(name: bytes) -> None:
    """Return when this is a Name that people can be shown, in lists and logs: SEQUENCE OF SET OF SEQUENCE of an OID and a text.

    Raises:
        ValueError: it is none, has values that are no strings, are empty or hold control characters (with a zero byte some
            readers would take "a" for the whole of "a\\0.example"), or an RDN with one type twice, or not in DER's order.

    Source: RFC 5280, 4.1.2.4; X.690, 11.6.
    """
    if len(name) > _MAX_NAME_BYTES:
        raise ValueError("a name that is too long")
    plain = True
    for start, end in elements(name):
        rdn = name[start:end]
        pairs = list(elements(rdn, 0x31))
        if not pairs:
            raise ValueError("an empty RDN")
        types = []
        for first, last in pairs:
            pair = rdn[first:last]
            (oid, middle), (value, _) = elements(pair)
            if pair[oid] != 0x06:
                raise ValueError("an attribute without type")
            types.append(pair[oid:middle])
            if _PLAIN.fullmatch(pair, value) is None:
                plain = False
                if pair[value] not in _STRINGS and types[-1] != _BITS:
                    raise ValueError("a value that is no string")
                if pair[value + 1] == 0:
                    raise ValueError("an empty value")
        if len(pairs) > 1:
            found = [rdn[first:last] for first, last in pairs]
            if found != sorted(found) or len(set(types)) < len(types):
                raise ValueError("an RDN that is not in DER")
    if not plain:
        for attribute in decode(x509.Name, name):
            text = attribute.value
            if isinstance(text, str) and any(unicodedata.category(each) == "Cc" for each in text):
                raise ValueError("a value with control characters")


_NOT_A_CA = _extension(_BASIC_CONSTRAINTS, b"\x30\x00", critical=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuingProfile:
    """What certificates of one kind look like.

    Attributes:
        name: that a requester's certProfile says.
        subjects: patterns, one of which the subject must match, such as ``CN=*,O=Example``; empty: any subject.
        subject_pattern: regular expression that the whole subject must match, written as RFC 4514 does. Mind the escapes:
            ``[^,]*`` matches a backslash before a comma that is part of a value; ``subjects`` has no such trap.
        update_keeps_names: a key update may not change subject or subjectAltName.
        key_types: ``rsa``, ``ec:CURVE``, ``ed25519``, ``ed448``, ``ml-dsa-44``...; ``x25519``, ``x448``, ``ml-kem-512``... sign
            nothing, and get the key usage that fits them.
        min_rsa_bits, max_rsa_bits: of RSA keys.
        validity_days: what is given to who asks for nothing.
        max_validity_days: what is given at most.
        key_usage: given to who asks for nothing, as names of RFC 5280.
        max_key_usage: what may be asked for; empty: all but keyCertSign and cRLSign.
        extended_key_usage: names of RFC 5280 (``clientAuth``) or dotted OIDs, given to who asks for nothing.
        allowed_extended_key_usages: what may be asked for; empty: all but those refused.
        refused_extended_key_usages: what nobody gets by asking: they make RAs, CAs and responders.
        allowed_extensions: names of RFC 5280 (``certificatePolicies``) or dotted OIDs of further extensions that are
            issued as they are asked for.
        ca: certificates are for CAs: keyCertSign and cRLSign, and a basicConstraints that says so.
        by_label_only: to be had only at a label that names it among its profiles, unless it is the default one; so it is
            with ``ca`` whatever stands here.
        max_path_length: with ``ca``, how many CAs may stand below.
        crl_url: where the CRL is, for cRLDistributionPoints.
        issuer_url: where the CA's certificate is, for authorityInfoAccess.
        reuse_key: a key update may keep the key.
        reissue: the same key and subject may be certified again.
    """

    name: str = "default"
    subjects: tuple[NamePattern, ...] = ()
    subject_pattern: str | None = None
    update_keeps_names: bool = True
    key_types: frozenset[str] = frozenset(
        (
            "rsa",
            *(f"ec:{curve}" for curve in _CURVES.values()),
            *_KEY_TYPES.values(),
        )
    )
    min_rsa_bits: int = 2048
    max_rsa_bits: int = 8192
    validity_days: float = 365.0
    max_validity_days: float = 825.0
    key_usage: tuple[str, ...] = ("digitalSignature",)
    max_key_usage: tuple[str, ...] = ()
    extended_key_usage: tuple[str, ...] = ()
    allowed_extended_key_usages: frozenset[str] = frozenset()
    refused_extended_key_usages: frozenset[str] = frozenset(
        ("1.3.6.1.5.5.7.3.9", "1.3.6.1.5.5.7.3.27", "1.3.6.1.5.5.7.3.28", "1.3.6.1.5.5.7.3.32", "2.5.29.37.0")
    )
    allowed_extensions: frozenset[str] = frozenset()
    ca: bool = False
    by_label_only: bool = False
    max_path_length: int = 0
    crl_url: str | None = None
    issuer_url: str | None = None
    reuse_key: bool = False
    reissue: bool = True

    def __post_init__(self) -> None:
        refuse(self._wrong())
        for field, names in (
            ("extended_key_usage", _EXTENDED_USAGES),
            ("allowed_extended_key_usages", _EXTENDED_USAGES),
            ("refused_extended_key_usages", _EXTENDED_USAGES),
            ("allowed_extensions", _EXTENSIONS),
        ):
            values = getattr(self, field)
            object.__setattr__(self, field, type(values)(names.get(each, each) for each in values))

    def _wrong(self) -> Iterator[WrongValue]:
        known = {"rsa", *KEY_ALGORITHMS}
        for each in sorted(self.key_types - known):
            yield WrongValue(f"has no such type: {each}{near(each, known)}", "key_types")
        if not self.key_types:
            yield WrongValue("is empty", "key_types")
        for field in ("key_usage", "max_key_usage"):
            for each in getattr(self, field):
                if each not in _USAGES:
                    yield WrongValue(f"has no such usage: {each}{near(each, _USAGES)}", field)
        if not self.key_usage:
            yield WrongValue("is empty", "key_usage")
        elif not self.ca and {"keyCertSign", "cRLSign"} & {*self.key_usage, *self.max_key_usage}:
            yield WrongValue("has what is for CAs only; say ca = true", "key_usage")
        if self.max_key_usage and (more := set(self.key_usage) - set(self.max_key_usage)):
            yield WrongValue(f"has what max_key_usage has not: {', '.join(sorted(more))}", "key_usage")
        for field, names in (
            ("extended_key_usage", _EXTENDED_USAGES),
            ("allowed_extended_key_usages", _EXTENDED_USAGES),
            ("refused_extended_key_usages", _EXTENDED_USAGES),
            ("allowed_extensions", _EXTENSIONS),
        ):
            for each in getattr(self, field):
                if each not in names and not _is_oid(each):
                    yield WrongValue(f"has no OID and no name of one: {each}{near(each, names)}", field)
        for each in self.allowed_extensions:
            if _EXTENSIONS.get(each, each) in _MADE_HERE:
                yield WrongValue(f"has what the CA itself decides: {each}", "allowed_extensions")
        for field in ("validity_days", "max_validity_days"):
            if not 0 < getattr(self, field) <= 36525:
                yield WrongValue("is not between 0 and 36525 days", field)
        if self.validity_days > self.max_validity_days:
            yield WrongValue("is more than max_validity_days", "validity_days")
        if not 1024 <= self.min_rsa_bits <= self.max_rsa_bits <= 16384:
            yield WrongValue("does not go with max_rsa_bits (1024 to 16384)", "min_rsa_bits")
        if not 0 <= self.max_path_length <= 100:
            yield WrongValue("is not between 0 and 100", "max_path_length")
        if self.subject_pattern is not None:
            try:
                re.compile(self.subject_pattern)
            except re.error as error:
                yield WrongValue(f"is not a regular expression: {error}", "subject_pattern")
        for field in ("crl_url", "issuer_url"):
            if (url := getattr(self, field)) is not None and (words := url_problem(url)):
                yield WrongValue(words, field)

    def check_key(self, public_key: bytes) -> None:
        """Return when this key (SubjectPublicKeyInfo, DER) may be certified.

        Raises:
            Rejected: badCertTemplate.
        """
        try:
            kind, bits = _kind_of(public_key)
            weak = _is_anybodys(public_key, kind)
        except (ValueError, StopIteration):
            raise Rejected(_TEMPLATE, "the public key does not decode") from None
        if kind not in self.key_types:
            raise Rejected(_TEMPLATE, f"keys of type {kind} are not certified")
        if kind == "rsa" and not self.min_rsa_bits <= bits <= self.max_rsa_bits:
            raise Rejected(
                _TEMPLATE, f"RSA keys of {bits} bits are not certified ({self.min_rsa_bits} to {self.max_rsa_bits} are)"
            )
        if weak:
            raise Rejected(_TEMPLATE, "anybody could sign for this public key")

    def check_subject(self, subject: bytes) -> None:
        """Return when this subject (DER of a Name) may be certified.

        Raises:
            Rejected: badCertTemplate.
        """
        try:
            _check_name(subject)
            if self.subject_pattern is None and not self.subjects:
                return
            text = decode(x509.Name, subject).rfc4514_string()
        except ValueError:
            raise Rejected(_TEMPLATE, "the subject does not decode") from None
        if self.subjects and not any(each.matches(subject) for each in self.subjects):
            raise Rejected(_TEMPLATE, "this subject is not certified here")
        if self.subject_pattern is not None and not re.fullmatch(self.subject_pattern, text):
            raise Rejected(_TEMPLATE, "this subject is not certified here")

    def validity(
        self, now: datetime, not_before: datetime | None, not_after: datetime | None, end: datetime
    ) -> tuple[datetime, datetime, tuple[str, ...]]:
        """Validity for what was asked, and what differs from it in words.

        Args:
            end: of the CA's own certificate.

        Raises:
            Rejected: badCertTemplate, the time asked for is over before it begins.
        """
        now = now.replace(microsecond=0)
        changes: list[str] = []
        latest = min(now + timedelta(days=self.max_validity_days), end)
        begin = not_before or now
        if begin < now - timedelta(days=1):
            begin = now
            changes.append("validity begins now")
        if not_after is None:
            until = min(begin + timedelta(days=self.validity_days), latest)
        elif not_after > latest:
            until = latest
            changes.append(f"validity ends {latest:%Y-%m-%d %H:%M:%S}Z")
        else:
            until = not_after
        if until <= begin or until <= now:
            raise Rejected(_TEMPLATE, "the validity ends before it begins")
        return begin, until, tuple(changes)

    def extensions(
        self, requested: tuple[Extension, ...], subject: bytes, public_key: bytes
    ) -> tuple[list[Extension], tuple[str, ...]]:
        """The extensions of a certificate but those that name the CA, and what differs from the request in words.

        Raises:
            Rejected: badCertTemplate or unacceptedExtension.
        """
        changes: list[str] = []
        wanted = {each.oid: each for each in requested}
        ski = wanted.pop(_SKI, None)
        identifier = wrap(0x04, key_identifier(public_key))
        if ski is not None and ski.extn_value != identifier:
            changes.append("subjectKeyIdentifier is the CA's")
        for oid, name in (
            (_AKI, "authorityKeyIdentifier"),
            (_CDP, "cRLDistributionPoints"),
            (_AIA, "authorityInfoAccess"),
        ):
            if wanted.pop(oid, None) is not None:
                changes.append(f"{name} is the CA's")
        basic, usage, extended, san = (
            wanted.pop(oid, None) for oid in (_BASIC_CONSTRAINTS, _KEY_USAGE, _EXTENDED_KEY_USAGE, _SAN)
        )
        more = [wanted.pop(oid) for oid in list(wanted) if oid in self.allowed_extensions]
        if wanted:
            raise Rejected(FailureInfo.UNACCEPTED_EXTENSION, f"extension {next(iter(wanted))} is not issued here")
        try:
            result = [
                self._constraints(basic, changes),
                self._usage(usage, public_key),
                _extension(_SKI, identifier),
                *more,
            ]
            if (chosen := self._extended(extended)) is not None:
                result.append(chosen)
            if san is not None:
                _check_names(san.extn_value)
                result.append(_extension(_SAN, san.extn_value, critical=subject == b"0\x00" or san.critical))
        except ValueError:
            raise Rejected(_TEMPLATE, "an extension that does not decode") from None
        if self.crl_url:
            location = wrap(0xA0, wrap(0xA0, wrap(0x86, self.crl_url.encode("ascii"))))
            result.append(_extension(_CDP, wrap(0x30, wrap(0x30, location))))
        if self.issuer_url:
            method = encode(x509.ObjectIdentifier("1.3.6.1.5.5.7.48.2"))
            result.append(
                _extension(_AIA, wrap(0x30, wrap(0x30, method + wrap(0x86, self.issuer_url.encode("ascii")))))
            )
        return result, tuple(changes)

    def _constraints(self, requested: Extension | None, changes: list[str]) -> Extension:
        parts: list[bytes] = []
        if requested is not None:
            parts = [requested.extn_value[a:b] for a, b in elements(requested.extn_value)]
        if not self.ca:
            if b"\x01\x01\xff" in parts:
                raise Rejected(_TEMPLATE, "certificates of CAs are not issued here")
            return _NOT_A_CA
        length = self.max_path_length
        if requested is not None:
            if parts[:1] != [b"\x01\x01\xff"]:
                raise Rejected(_TEMPLATE, "only certificates of CAs are issued here")
            asked = decode_der(int, parts[1]) if len(parts) > 1 else None
            if asked is not None and 0 <= asked <= length:
                length = asked
            else:
                changes.append(f"the path length is {length}")
        value = wrap(0x30, b"\x01\x01\xff" + encode(length))
        return _extension(_BASIC_CONSTRAINTS, value, critical=True)

    def _usage(self, requested: Extension | None, public_key: bytes) -> Extension:
        _, only = _ENCRYPTING.get(_kind_of(public_key)[0], (None, None))
        if self.ca:
            if only is not None:
                raise Rejected(_TEMPLATE, "a CA's key signs")
            return self._usage_of_a_ca(requested)
        if requested is None:
            return _extension(_KEY_USAGE, key_usage(*(self.key_usage if only is None else (only,))), critical=True)
        octets = decode_der(BitString, requested.extn_value).as_bytes()
        if len(octets) > 2:
            raise Rejected(_TEMPLATE, "a keyUsage with bits that have no name")
        value = int.from_bytes(octets.ljust(2, b"\0"), "big")
        if value & _USAGE_OF_A_CA:
            raise Rejected(_TEMPLATE, "keyCertSign and cRLSign are for CAs")
        if not value:
            raise Rejected(_TEMPLATE, "an empty keyUsage")
        if only is not None and value != 0x8000 >> _USAGES.index(only):
            raise Rejected(_TEMPLATE, f"a key of this type is for {only} only")
        self._check_usage(value)
        return _extension(_KEY_USAGE, requested.extn_value, critical=True)

    def _usage_of_a_ca(self, requested: Extension | None) -> Extension:
        value = key_usage(*dict.fromkeys((*self.key_usage, "keyCertSign", "cRLSign")))
        if requested is not None:
            octets = decode_der(BitString, requested.extn_value).as_bytes()
            asked = int.from_bytes(octets[:2].ljust(2, b"\0"), "big")
            if len(octets) > 2 or not asked & 0x0400:
                raise Rejected(_TEMPLATE, "a CA's certificate without keyCertSign")
            self._check_usage(asked & ~_USAGE_OF_A_CA)
            value = requested.extn_value
        return _extension(_KEY_USAGE, value, critical=True)

    def _check_usage(self, value: int) -> None:
        if self.max_key_usage:
            for place, name in enumerate(_USAGES):
                if value & 0x8000 >> place and name not in self.max_key_usage:
                    raise Rejected(_TEMPLATE, f"key usage {name} is not given here")

    def _extended(self, requested: Extension | None) -> Extension | None:
        if requested is None:
            if not self.extended_key_usage:
                return None
            parts = b"".join([encode(x509.ObjectIdentifier(oid)) for oid in self.extended_key_usage])
            return _extension(_EXTENDED_KEY_USAGE, wrap(0x30, parts))
        value = requested.extn_value
        names = [decode_der(x509.ObjectIdentifier, value[a:b]).dotted_string for a, b in elements(value)]
        if not names:
            raise Rejected(_TEMPLATE, "an empty extKeyUsage")
        for name in names:
            refused = self.allowed_extended_key_usages and name not in self.allowed_extended_key_usages
            if refused or name in self.refused_extended_key_usages:
                raise Rejected(_TEMPLATE, f"extended key usage {name} is not given to who asks for it")
        return _extension(_EXTENDED_KEY_USAGE, value, critical=requested.critical)


@lru_cache(maxsize=64)
def key_usage(*names: str) -> bytes:
    """DER of a KeyUsage with these bits (RFC 5280, 4.2.1.3).

    Raises:
        ValueError: no such name.
    """
    if unknown := set(names) - set(_USAGES):
        raise ValueError(f"no such key usage: {', '.join(sorted(unknown))}")
    places = [_USAGES.index(name) for name in names]
    value = sum(0x8000 >> place for place in places)
    highest = max(places)
    return encode(BitString(value.to_bytes(2, "big")[: highest // 8 + 1], 7 - highest % 8))


def _check_names(names: bytes) -> None:
    """Return when this is the DER of one or more GeneralNames (RFC 5280, 4.2.1.6).

    Raises:
        ValueError: it is not.
    """
    found = list(elements(names))
    if not found:
        raise ValueError("no name")
    for start, end in found:
        tag, content, stop = read_header(names, start, end)
        value = names[content:stop]
        if tag in {0x81, 0x82, 0x86}:
            if not value.isascii() or not value or not value.decode().isprintable():
                raise ValueError("a name that is no IA5String")
        elif tag == 0x87:
            if len(value) not in {4, 16}:
                raise ValueError("an address of another length")
        elif tag == 0xA4:
            _check_name(value)
        elif tag == 0x88:
            decode(x509.ObjectIdentifier, b"\x06" + names[start + 1 : end])
        elif tag not in {0xA0, 0xA3, 0xA5}:
            raise ValueError("no GeneralName")


_P_25519 = 2**255 - 19
_P_448 = 2**448 - 2**224 - 1
_Y_OF_ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_LOW_ORDER = {
    "ed25519": (_P_25519, frozenset((0, 1, _P_25519 - 1, _Y_OF_ORDER_8, _P_25519 - _Y_OF_ORDER_8))),
    "ed448": (_P_448, frozenset((0, 1, _P_448 - 1))),
}


def _is_anybodys(public_key: bytes, kind: str) -> bool:
    """Whether signatures by this key can be made without a private one: they prove possession of nothing.

    RSA with a public exponent of 1 (or one that has no inverse), the point at infinity, and Edwards points of low order.

    Raises:
        ValueError, StopIteration: the key does not decode.

    Source: NIST SP 800-89, 5.3.3; RFC 7748, 6.
    """
    _, key = _key_parts(public_key)
    if kind == "rsa":
        modulus, exponent = (decode(int, key[start:end]) for start, end in elements(key))
        return exponent < 3 or not exponent & modulus & 1
    if kind.startswith("ec:"):
        return len(key) < 2
    if kind in _LOW_ORDER:
        prime, low = _LOW_ORDER[kind]
        return (int.from_bytes(key, "little") & (1 << (255 if kind == "ed25519" else 455)) - 1) % prime in low
    return False


def _kind_of(public_key: bytes) -> tuple[str, int]:
    algorithm, key = _key_parts(public_key)
    kind = _known_kind(algorithm)
    if kind != "rsa":
        return kind, 0
    start, end = next(elements(key))
    _, content, stop = read_header(key, start, end)
    return kind, int.from_bytes(key[content:stop], "big").bit_length()


@lru_cache(maxsize=64)
def _known_kind(algorithm: bytes) -> str:
    info = decode(AlgorithmIdentifier, algorithm)
    if info.oid == "1.2.840.10045.2.1":
        curve = decode_der(x509.ObjectIdentifier, info.parameters_der or b"").dotted_string
        return f"ec:{_CURVES.get(curve, curve)}"
    return "rsa" if info.oid in _RSA_KEYS else _KEY_TYPES.get(info.oid, info.oid)
