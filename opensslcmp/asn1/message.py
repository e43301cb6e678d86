"""The parts of a PKIMessage that are not a body (RFC 9810, 5.1 and 5.2; EXPLICIT TAGS)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import EllipsisType
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.asn1 import Explicit

from opensslcmp.asn1.common import (
    TLV,
    AlgorithmIdentifier,
    AnyValue,
    BitString,
    GeneralizedTime,
    decode,
    der,
    directory_name,
    dotted,
    encode,
    encode_list,
    name_of_general,
    read_header,
    structure,
    tlv,
    wrap,
)
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus

__all__ = [
    "InfoTypeAndValue",
    "KemBMParameter",
    "PBKDF2Params",
    "PBMAC1Params",
    "PKIHeader",
    "PKIStatusInfo",
    "assemble",
    "failure_bits",
    "general_time",
    "header_der",
    "header_parts",
    "make_header",
    "protected_part",
]


@structure
class InfoTypeAndValue:
    """InfoTypeAndValue; ``opensslcmp.asn1.info`` reads and writes the values."""

    info_type: x509.ObjectIdentifier
    info_value: AnyValue = None

    @property
    def oid(self) -> str:
        """The type, dotted."""
        return dotted(self.info_type)

    @property
    def value_der(self) -> bytes | None:
        """The value as it stands, or None when absent."""
        return None if self.info_value is None else der(self.info_value)

    @classmethod
    def make(cls, oid: str, value: bytes | AnyValue = None) -> InfoTypeAndValue:
        """From a dotted OID and a value in DER (None: absent)."""
        return cls(info_type=x509.ObjectIdentifier(oid), info_value=tlv(value) if isinstance(value, bytes) else value)


@structure
class PKIHeader:
    """PKIHeader (RFC 9810, 5.1.1). ``sender`` and ``recipient`` are GeneralNames as they stand."""

    pvno: int
    sender: TLV
    recipient: TLV
    message_time: Annotated[GeneralizedTime | None, Explicit(0)] = None
    protection_alg: Annotated[AlgorithmIdentifier | None, Explicit(1)] = None
    sender_kid: Annotated[bytes | None, Explicit(2)] = None
    recip_kid: Annotated[bytes | None, Explicit(3)] = None
    transaction_id: Annotated[bytes | None, Explicit(4)] = None
    sender_nonce: Annotated[bytes | None, Explicit(5)] = None
    recip_nonce: Annotated[bytes | None, Explicit(6)] = None
    free_text: Annotated[list[str] | None, Explicit(7)] = None
    general_info: Annotated[list[InfoTypeAndValue] | None, Explicit(8)] = None

    @property
    def sender_name(self) -> bytes | None:
        """The sender's Name, or None when the GeneralName is none."""
        return name_of_general(self.sender)

    @property
    def recipient_name(self) -> bytes | None:
        """The recipient's Name, or None when the GeneralName is none."""
        return name_of_general(self.recipient)

    def info(self, oid: str) -> InfoTypeAndValue | None:
        """The first generalInfo of this type, or None."""
        for item in self.general_info or ():
            if dotted(item.info_type) == oid:
                return item
        return None


def failure_bits(*failures: FailureInfo) -> BitString:
    """PKIFailureInfo with these bits set, without trailing zero bits."""
    value = 0
    for failure in failures:
        value |= 0x80000000 >> failure
    highest = max(failures)
    octets = highest // 8 + 1
    return BitString(value.to_bytes(4, "big")[:octets], 7 - highest % 8)


@structure
class PKIStatusInfo:
    """PKIStatusInfo (RFC 9810, 5.2.3). ``status`` may be a number that PKIStatus does not know."""

    status: int
    status_string: list[str] | None = None
    fail_info: BitString | None = None

    @classmethod
    def make(
        cls,
        status: PKIStatus,
        *text: str,
        failure: FailureInfo | None = None,
        failures: Iterable[FailureInfo] = (),
    ) -> PKIStatusInfo:
        """A status with texts for people and, for a rejection, the failInfo bit."""
        chosen = tuple(failures) or (() if failure is None else (failure,))
        return cls(
            status=int(status),
            status_string=list(text) or None,
            fail_info=failure_bits(*chosen) if chosen else None,
        )

    @property
    def failures(self) -> tuple[FailureInfo, ...]:
        """The failInfo bits that have a name, in the order of their numbers."""
        if self.fail_info is None:
            return ()
        octets = self.fail_info.as_bytes()[:4]
        value = int.from_bytes(octets.ljust(4, b"\0"), "big")
        return tuple(failure for failure in FailureInfo if value & (0x80000000 >> failure))

    @property
    def text(self) -> tuple[str, ...]:
        """The statusString, one item per line."""
        return tuple(self.status_string or ())


@structure
class PBKDF2Params:
    """PBKDF2-params (RFC 8018, A.2) with a salt given as OCTET STRING; no prf means HMAC-SHA-1."""

    salt: bytes
    iteration_count: int
    key_length: int | None = None
    prf: AlgorithmIdentifier | None = None


@structure
class PBMAC1Params:
    """PBMAC1-params (RFC 8018, A.5)."""

    key_derivation_func: AlgorithmIdentifier
    message_auth_scheme: AlgorithmIdentifier


@structure
class KemBMParameter:
    """KemBMParameter (RFC 9810, 5.1.3.4)."""

    kdf: AlgorithmIdentifier
    kem_context: Annotated[bytes | None, Explicit(0)] = None
    len: int
    mac: AlgorithmIdentifier


# -- building ------------------------------------------------------------------------------------------------------


def general_time(moment: datetime) -> GeneralizedTime:
    """A GeneralizedTime in whole seconds of UTC. A naive ``moment`` is taken as UTC."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return GeneralizedTime(moment.replace(microsecond=0))


def make_header(
    *,
    sender: bytes,
    recipient: bytes,
    pvno: int = 2,
    message_time: datetime | EllipsisType | None = ...,
    transaction_id: bytes | None,
    sender_nonce: bytes | None,
    recip_nonce: bytes | None = None,
    sender_kid: bytes | None = None,
    recip_kid: bytes | None = None,
    protection_alg: bytes | AlgorithmIdentifier | None = None,
    general_info: Sequence[InfoTypeAndValue] = (),
    free_text: Sequence[str] = (),
) -> PKIHeader:
    """A PKIHeader from plain values.

    Args:
        sender: DER of a Name, as is ``recipient``; ``NULL_DN`` for none.
        message_time: ``...`` takes the time of now, None leaves the field out.
        protection_alg: AlgorithmIdentifier, or its DER.

    Raises:
        ValueError: something given in DER is not.

    Source: RFC 9810, 5.1.1.
    """
    moment = datetime.now(UTC) if message_time is ... else message_time
    return PKIHeader(
        pvno=pvno,
        sender=directory_name(sender),
        recipient=directory_name(recipient),
        message_time=None if moment is None else general_time(moment),
        protection_alg=decode(AlgorithmIdentifier, protection_alg)
        if isinstance(protection_alg, bytes)
        else protection_alg,
        sender_kid=sender_kid,
        recip_kid=recip_kid,
        transaction_id=transaction_id,
        sender_nonce=sender_nonce,
        recip_nonce=recip_nonce,
        free_text=list(free_text) or None,
        general_info=list(general_info) or None,
    )


@lru_cache(maxsize=4)
def _time_der(second: int) -> bytes:
    return wrap(0xA0, encode(general_time(datetime.fromtimestamp(second, UTC))))


def header_parts(
    *,
    pvno: int,
    sender: bytes,
    recipient: bytes,
    second: int,
    transaction_id: bytes | None,
    sender_nonce: bytes,
    recip_nonce: bytes | None,
    general_info: Sequence[InfoTypeAndValue | bytes] = (),
) -> tuple[bytes, bytes]:
    """What stands in a PKIHeader before protectionAlg and after senderKID, in DER, for ``protect``.

    Args:
        sender, recipient: DER of GeneralNames.
        second: messageTime, in whole seconds since 1970.
        general_info: structures, or DER.

    Put together from bytes, since a server makes one for every message: 6 µs instead of 16 through ``PKIHeader``.

    Source: RFC 9810, 5.1.1.
    """
    return b"".join((bytes((0x02, 0x01, pvno)), sender, recipient, _time_der(second))), b"".join(
        (
            b"" if transaction_id is None else wrap(0xA4, wrap(0x04, transaction_id)),
            wrap(0xA5, wrap(0x04, sender_nonce)),
            b"" if recip_nonce is None else wrap(0xA6, wrap(0x04, recip_nonce)),
            wrap(0xA8, encode_list(general_info)) if general_info else b"",
        )
    )


def header_der(
    *,
    pvno: int,
    sender: bytes,
    recipient: bytes,
    second: int,
    transaction_id: bytes | None,
    sender_nonce: bytes,
    recip_nonce: bytes | None,
    general_info: Sequence[InfoTypeAndValue | bytes] = (),
) -> bytes:
    """DER of a PKIHeader without protectionAlg and senderKID, of what ``header_parts`` takes."""
    before, after = header_parts(
        pvno=pvno,
        sender=sender,
        recipient=recipient,
        second=second,
        transaction_id=transaction_id,
        sender_nonce=sender_nonce,
        recip_nonce=recip_nonce,
        general_info=general_info,
    )
    return wrap(0x30, before + after)


def protected_part(header: PKIHeader | bytes, body_type: BodyType, body_der: bytes) -> bytes:
    """DER of ProtectedPart, what a protection is computed over (RFC 9810, 5.1.3)."""
    start = header if isinstance(header, bytes) else encode(header)
    return wrap(0x30, start + wrap(0xA0 | body_type, body_der))


def assemble(part: bytes, protection: bytes | None, extra_certs: Iterable[bytes] = ()) -> bytes:
    """DER of the PKIMessage with this ProtectedPart, protection bits and certificates (DER, in this order)."""
    _, start, _ = read_header(part, 0, len(part))
    content = part[start:]
    if protection is not None:
        content += wrap(0xA0, wrap(0x03, b"\0" + protection))
    certificates = b"".join(extra_certs)
    if certificates:
        content += wrap(0xA1, wrap(0x30, certificates))
    return wrap(0x30, content)
