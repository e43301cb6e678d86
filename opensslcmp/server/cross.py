"""Certificates for other CAs, by cross-certification (ccr, ccp).

Source: RFC 9810, 6.6 and appendix D.6; RFC 5280, 4.2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.asn1 import decode_der

from opensslcmp.asn1 import BitString, Extension, elements, encode, wrap
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import Rejected
from opensslcmp.server.profile import IssuingProfile, key_identifier, key_usage

__all__ = ["CrossProfile"]

_TEMPLATE = FailureInfo.BAD_CERT_TEMPLATE
_BASIC_CONSTRAINTS = "2.5.29.19"
_KEY_USAGE = "2.5.29.15"
_SKI = "2.5.29.14"
_CONSTRAINING = frozenset(("2.5.29.30", "2.5.29.32", "2.5.29.33", "2.5.29.36", "2.5.29.54"))
"""nameConstraints, certificatePolicies, policyMappings, policyConstraints, inhibitAnyPolicy."""
_OURS = frozenset(("2.5.29.35", "2.5.29.31", "1.3.6.1.5.5.7.1.1"))
_SIGNS = key_usage("keyCertSign", "cRLSign")


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossProfile(IssuingProfile):
    """What certificates for other CAs look like; fields of end entities' usages are not used.

    Attributes:
        max_path_length: how many CAs may stand below the other CA.
    """

    name: str = "cross"
    max_path_length: int = 0

    def extensions(
        self, requested: tuple[Extension, ...], subject: bytes, public_key: bytes
    ) -> tuple[list[Extension], tuple[str, ...]]:
        """The extensions of a cross-certificate but those that name this CA, and what differs from the request.

        Raises:
            Rejected: badCertTemplate or unacceptedExtension.
        """
        changes: list[str] = []
        result: list[Extension] = []
        wanted = {each.oid: each.extn_value for each in requested}
        try:
            length = self._path_length(wanted.pop(_BASIC_CONSTRAINTS, None), changes)
            usage = wanted.pop(_KEY_USAGE, _SIGNS)
            if not int.from_bytes(decode_der(BitString, usage).as_bytes()[:1], "big") & 0x04:
                raise Rejected(_TEMPLATE, "a CA's certificate without keyCertSign")
            # Such as others that the CA has for this key, so that its certificates' authorityKeyIdentifier leads here.
            identifier = decode_der(bytes, wanted.pop(_SKI, wrap(0x04, key_identifier(public_key))))
        except ValueError:
            raise Rejected(_TEMPLATE, "an extension that does not decode") from None
        if usage != _SIGNS:
            changes.append("keyUsage is keyCertSign and cRLSign")
        for oid, value, critical in (
            (_BASIC_CONSTRAINTS, wrap(0x30, b"\x01\x01\xff" + encode(length)), True),
            (_KEY_USAGE, _SIGNS, True),
            (_SKI, wrap(0x04, identifier), False),
        ):
            result.append(Extension(extn_id=x509.ObjectIdentifier(oid), critical=critical, extn_value=value))
        for each in requested:
            if each.oid in _CONSTRAINING:
                result.append(each)
            elif each.oid in _OURS:
                changes.append(f"extension {each.oid} is this CA's")
            elif each.oid in wanted:
                raise Rejected(FailureInfo.UNACCEPTED_EXTENSION, f"extension {each.oid} is not issued here")
        return result, tuple(changes)

    def _path_length(self, constraints: bytes | None, changes: list[str]) -> int:
        if constraints is None:
            return self.max_path_length
        parts = [constraints[start:end] for start, end in elements(constraints)]
        if parts[:1] != [b"\x01\x01\xff"]:
            raise Rejected(_TEMPLATE, "a cross-certificate that is not for a CA")
        asked = decode_der(int, parts[1]) if len(parts) > 1 else None
        if asked is not None and 0 <= asked <= self.max_path_length:
            return asked
        changes.append(f"the path length is {self.max_path_length}")
        return self.max_path_length
