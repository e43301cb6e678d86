"""The gate: what every message from a peer passes, in both roles, before anything else looks at it.

``admit`` decodes in steps, so that a message with a bad body still gets an answer with the right transactionID and
nonce: outer SEQUENCE -> header -> (``Message.content()``) body. extraCerts stay bytes. Each step counts what it is
about to build before it builds it, so the cost of a hostile message is bounded by ``Limits``, whatever it claims.
Nothing but ``BadMessage`` leaves this module, and its ``header`` holds as much as could be read.

What the gate decides is form: one DER element, known version, bounded sizes and counts, parameters of MACs that
libcrypto can be trusted with (CVE-2026-63076: PBM parameters that are no SEQUENCE crash unpatched OpenSSLs). Which
rule of the protocol applies when is decided above, in ``server`` and ``client``.

Measured beside other work on the machine of ``measured.md``: a PBM-protected ir passes in 12 us (5 of them the header, 3 the
MAC parameters), its body decodes in 9 us; the dearest refusal found, a megabyte of two-byte lists, costs 4 ms.

Source: RFC 9810, 5.1; RFC 9483, 3.1 and 3.5.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any

from cryptography.hazmat.asn1 import TLV, BitString, Explicit, Null, decode_der
from cryptography.x509 import ObjectIdentifier

from opensslcmp.asn1 import oids
from opensslcmp.asn1.bodies import decode_body
from opensslcmp.asn1.common import (
    AlgorithmIdentifier,
    GeneralizedTime,
    count,
    der,
    elements,
    holds_at_most,
    initializer,
    is_general_name,
    name_in_general,
    read_header,
    structure,
    wrap,
)
from opensslcmp.asn1.crmf import PBMParameter
from opensslcmp.asn1.message import KemBMParameter, PBKDF2Params, PBMAC1Params, PKIHeader
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage

__all__ = ["Limits", "MacParameterSet", "Message", "admit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds on what one message of a peer may make us do. All are inclusive.

    The gate bounds form; what a MAC may cost is decided, digest by digest, where it is computed (``context.MacLimits``):
    to take more iterations than the default, widen both.

    Attributes:
        max_message_bytes, max_header_bytes: of a message, and of its header.
        versions: that pvno may be.
        require_transaction_id: of all but error messages and announcements.
        min_id_bytes, max_id_bytes: of transactionID and nonces.
        max_kid_bytes: of senderKID and recipKID.
        max_name_bytes: of sender and recipient.
        max_free_text, max_text_bytes: texts in freeText, and the length of each.
        max_general_info: items of generalInfo.
        max_extra_certs, max_certificate_bytes: certificates in extraCerts, and the length of each.
        max_protection_bytes: of the signature or MAC.
        min_mac_iterations, max_mac_iterations, max_salt_bytes: of the parameters of a MAC.
        max_requests: items of ir, cr, kur, rr, certConf, pollReq and the like.
        max_infos: items of genm and genp.
        max_body_elements: DER elements of a body that would be decoded; certificates, CRLs and nested messages stay raw
            and are not counted inside.
        max_nested_messages: messages in a nested one.
        max_nested_depth: how often a message may stand inside another.
    """

    max_message_bytes: int = 1 << 20
    max_header_bytes: int = 64 << 10
    versions: frozenset[int] = frozenset((2, 3))
    require_transaction_id: bool = True
    min_id_bytes: int = 8
    max_id_bytes: int = 64
    max_kid_bytes: int = 512
    max_name_bytes: int = 4096
    max_free_text: int = 16
    max_text_bytes: int = 4096
    max_general_info: int = 32
    max_extra_certs: int = 32
    max_certificate_bytes: int = 64 << 10
    max_protection_bytes: int = 64 << 10
    min_mac_iterations: int = 1
    max_mac_iterations: int = 10_000
    max_salt_bytes: int = 128
    max_requests: int = 100
    max_infos: int = 32
    max_body_elements: int = 8192
    max_nested_messages: int = 100
    max_nested_depth: int = 3


_DEFAULTS = Limits()

# How deep the counting walk goes into a body. The few whose content stays raw (certificates, CRLs, messages) need only
# their lists counted; the entries of a long CRL are never decoded here.
_SHALLOW = {
    BodyType.GENM: 2,
    BodyType.GENP: 2,
    BodyType.CRLANN: 0,
    BodyType.NESTED: 0,
    BodyType.CANN: 0,
    BodyType.CKUANN: 1,
    BodyType.RP: 4,
}
_LISTS = {
    BodyType.IR: "max_requests",
    BodyType.CR: "max_requests",
    BodyType.KUR: "max_requests",
    BodyType.KRR: "max_requests",
    BodyType.CCR: "max_requests",
    BodyType.RR: "max_requests",
    BodyType.CERT_CONF: "max_requests",
    BodyType.POLL_REQ: "max_requests",
    BodyType.POLL_REP: "max_requests",
    BodyType.POPDECC: "max_requests",
    BodyType.POPDECR: "max_requests",
    BodyType.GENM: "max_infos",
    BodyType.GENP: "max_infos",
    BodyType.CRLANN: "max_requests",
    BodyType.NESTED: "max_nested_messages",
}
_SMALL_HEADER = 1024
_WITHOUT_TRANSACTION = frozenset((BodyType.ERROR, BodyType.CKUANN, BodyType.CANN, BodyType.RANN, BodyType.CRLANN))
_BODY_TYPES = tuple(BodyType(number) for number in range(27))

MacParameterSet = PBMParameter | PBMAC1Params | KemBMParameter


@structure
class _Outer:
    header: TLV
    body: TLV
    protection: Annotated[BitString | None, Explicit(0)] = None
    extra_certs: Annotated[TLV | Null | None, Explicit(1)] = None


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A PKIMessage that passed the gate.

    Attributes:
        der: the whole message.
        header: decoded; ``header_der`` its bytes.
        body_type: which of the 27 bodies.
        body_der: the body as it stands inside its [n] tag, not looked into; ``content()`` decodes it.
        protected_part: DER of ProtectedPart over the header and body as they stand: what the protection covers.
        protection: the bits, or None.
        extra_certs: DER of each certificate, as it stands.
        mac: the decoded parameters of PBM, PBMAC1 or KEM-based MAC, within the limits; None for anything else.
        depth: 0, or how many nested messages this one was taken out of.
    """

    der: bytes = dataclasses.field(repr=False)
    header: PKIHeader
    header_der: bytes = dataclasses.field(repr=False)
    body_type: BodyType
    body_der: bytes = dataclasses.field(repr=False)
    protected_part: bytes = dataclasses.field(repr=False)
    protection: bytes | None = dataclasses.field(repr=False)
    extra_certs: tuple[bytes, ...] = dataclasses.field(repr=False)
    mac: MacParameterSet | None
    limits: Limits = dataclasses.field(repr=False)
    depth: int = 0

    def content(self) -> Any:
        """The decoded body, as the table in ``opensslcmp.asn1.bodies`` says. Decoded anew by every call.

        Raises:
            BadMessage: badDataFormat when it does not decode, badRequest when it has more items than the limits allow.
        """
        body_type, body, limits = self.body_type, self.body_der, self.limits
        try:
            field = _LISTS.get(body_type)
            if field is not None:
                allowed = getattr(limits, field)
                if not holds_at_most(body, allowed):
                    raise BadMessage(FailureInfo.BAD_REQUEST, f"{body_type.text} with more than {allowed} items")
            # An element takes two bytes at least, so most bodies need no walk.
            if (
                len(body) > 2 * limits.max_body_elements
                and count(body, limits.max_body_elements, _SHALLOW.get(body_type, 12)) > limits.max_body_elements
            ):
                raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "a body with too many elements")
            return decode_body(body_type, body)
        except BadMessage as error:
            error.header = self.header
            raise
        except Exception as error:
            raise BadMessage(
                FailureInfo.BAD_DATA_FORMAT, f"the {body_type.text} body does not decode", self.header
            ) from error

    def nested(self, *, accept: frozenset[BodyType] | None = None) -> tuple[Message, ...]:
        """The messages inside a nested one, each admitted under the same limits.

        Raises:
            BadMessage: as ``admit`` and ``content``; badRequest when they are nested too deep. ``header`` is
                the inner message's, or this one's when that could not be read.
        """
        depth = self.depth + 1
        if depth > self.limits.max_nested_depth:
            raise BadMessage(FailureInfo.BAD_REQUEST, "messages nested too deep", self.header)
        try:
            return tuple([_admit(inner, self.limits, accept, depth) for inner in self.content()])
        except BadMessage as error:
            if error.header is None:
                error.header = self.header
            raise

    @property
    def sender_der(self) -> bytes:
        """The sender, a GeneralName, as it stands: what follows pvno, which the gate knows to have three bytes."""
        header = self.header_der
        start = 5 if header[1] < 0x80 else 5 + (header[1] & 0x7F)
        return header[start : read_header(header, start, len(header))[2]]

    @property
    def sender(self) -> bytes | None:
        """DER of the sender's Name; None when it is no directoryName."""
        return name_in_general(self.sender_der)

    @property
    def recipient(self) -> bytes | None:
        """DER of the recipient's Name; None when it is no directoryName."""
        return self.header.recipient_name

    @property
    def transaction_id(self) -> bytes | None:
        """transactionID."""
        return self.header.transaction_id

    @property
    def sender_nonce(self) -> bytes | None:
        """senderNonce."""
        return self.header.sender_nonce

    @property
    def recip_nonce(self) -> bytes | None:
        """recipNonce."""
        return self.header.recip_nonce

    @property
    def sender_kid(self) -> bytes | None:
        """senderKID."""
        return self.header.sender_kid

    @property
    def protection_algorithm(self) -> str | None:
        """The OID in protectionAlg, dotted."""
        algorithm = self.header.protection_alg
        return None if algorithm is None else algorithm.oid

    @property
    def message_time(self) -> datetime | None:
        """messageTime, in UTC."""
        moment = self.header.message_time
        return None if moment is None else moment.as_datetime()

    @property
    def implicit_confirm(self) -> bool:
        """generalInfo asks for, or grants, implicit confirmation."""
        return self.header.info(oids.IT_IMPLICIT_CONFIRM) is not None

    @property
    def confirm_wait_time(self) -> datetime | None:
        """confirmWaitTime of generalInfo.

        Raises:
            BadMessage: badDataFormat when it is no GeneralizedTime.
        """
        value = self._info(oids.IT_CONFIRM_WAIT_TIME, lambda item: decode_der(GeneralizedTime, item))
        return None if value is None else value.as_datetime()

    @property
    def cert_profile(self) -> tuple[str, ...]:
        """The names in certProfile of generalInfo.

        Raises:
            BadMessage: badDataFormat when it is no SEQUENCE OF UTF8String.
        """
        value = self._info(
            oids.IT_CERT_PROFILE, lambda item: tuple([decode_der(str, item[a:b]) for a, b in elements(item)])
        )
        return () if value is None else value

    def _info(self, oid: str, read: Callable[[bytes], Any]) -> Any:
        item = self.header.info(oid)
        if item is None:
            return None
        try:
            return read(der(item.info_value) if item.info_value is not None else b"")
        except ValueError as error:
            raise BadMessage(
                FailureInfo.BAD_DATA_FORMAT, f"the value of {oids.name_of(oid)} does not decode", self.header
            ) from error


# Made for every message, so it is worth the half microsecond (common.initializer).
Message.__init__ = initializer(Message, keyword_only=False)  # type: ignore[method-assign]


def admit(der: bytes, *, limits: Limits = _DEFAULTS, accept: frozenset[BodyType] | None = None) -> Message:
    """The message in ``der``, once its form is right and its sizes are bounded.

    Args:
        der: what the peer sent.
        limits: bounds; the defaults suit a server that talks to strangers.
        accept: body types that this role takes; None takes all 27.

    Raises:
        BadMessage: with the failInfo of the rule it breaks, and ``header`` when that could be read. Nothing else.

    Source: RFC 9810, 5.1; RFC 9483, 3.5.
    """
    return _admit(der, limits, accept, 0)


def _admit(data: bytes, limits: Limits, accept: frozenset[BodyType] | None, depth: int) -> Message:
    header: PKIHeader | None = None
    try:
        size = len(data)
        if size > limits.max_message_bytes:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"a message of {size} bytes")
        outer = decode_der(_Outer, data)
        # Where header and body stand in the message: DER lengths are minimal, so sizes tell the offsets.
        start = 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)
        length = data[start + 1]
        header_end = start + 2 + length
        if length >= 0x80:
            octets = length & 0x7F
            header_end = start + 2 + octets + int.from_bytes(data[start + 2 : start + 2 + octets], "big")
        length = data[header_end + 1]
        body_start = header_end + 2
        if length >= 0x80:
            octets = length & 0x7F
            body_start += octets
            length = int.from_bytes(data[header_end + 2 : body_start], "big")
        body_end = body_start + length
        if header_end - start > limits.max_header_bytes:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"a header of {header_end - start} bytes")
        header_der = data[start:header_end]
        if header_end - start > _SMALL_HEADER:
            _check_header_counts(header_der, limits)
        header = decode_der(PKIHeader, header_der)

        if header.pvno not in limits.versions:
            raise BadMessage(FailureInfo.UNSUPPORTED_VERSION, "a pvno that is not supported")
        number = data[header_end] - 0xA0
        if not 0 <= number <= 26:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "a body that is none of PKIBody")
        body_type = _BODY_TYPES[number]
        if accept is not None and body_type not in accept:
            raise BadMessage(FailureInfo.BAD_REQUEST, f"a message of type {body_type.text} is not accepted here")
        _check_header(header, header_end - start, body_type, limits)

        protection = None
        if outer.protection is not None:
            if outer.protection.padding_bits():
                raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "a protection that is no whole number of octets")
            protection = outer.protection.as_bytes()
            if len(protection) > limits.max_protection_bytes:
                raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"a protection of {len(protection)} bytes")
        algorithm = header.protection_alg
        if (algorithm is None) is not (protection is None):
            raise BadMessage(FailureInfo.WRONG_INTEGRITY, "protectionAlg and protection are not there together")
        return Message(
            data,
            header,
            header_der,
            body_type,
            data[body_start:body_end],
            wrap(0x30, data[start:body_end]),
            protection,
            () if outer.extra_certs is None else _extra_certs(outer.extra_certs, limits),
            None if algorithm is None else _mac_parameters(algorithm, limits),
            limits,
            depth,
        )
    except BadMessage as error:
        error.header = header if header is not None else _salvage(data, limits)
        raise
    except Exception as error:
        raise BadMessage(
            FailureInfo.BAD_DATA_FORMAT,
            f"not a PKIMessage in DER: {error}" if header is None else f"the message does not decode: {error}",
            header if header is not None else _salvage(data, limits),
        ) from error


def _salvage(data: bytes, limits: Limits) -> PKIHeader | None:
    """The header of a message that is not whole, when it can be read on its own."""
    with contextlib.suppress(Exception):
        start = 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)
        _, _, end = read_header(data, start, len(data))
        if data[0] == 0x30 and end - start <= limits.max_header_bytes:
            header_der = data[start:end]
            _check_header_counts(header_der, limits)
            header = decode_der(PKIHeader, header_der)
            if all(
                len(value or b"") <= limits.max_id_bytes
                for value in (header.transaction_id, header.sender_nonce, header.recip_nonce)
            ):
                return header
    return None


def _check_header_counts(header_der: bytes, limits: Limits) -> None:
    """Count freeText and generalInfo before they become lists."""
    for start, end in elements(header_der):
        allowed = {0xA7: limits.max_free_text, 0xA8: limits.max_general_info}.get(header_der[start])
        if allowed is None:
            continue
        _, inner, stop = read_header(header_der, start, end)
        if count(header_der[inner:stop], allowed + 1, 1) > allowed + 1:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"more than {allowed} items of freeText or generalInfo")


def _check_header(header: PKIHeader, size: int, body_type: BodyType, limits: Limits) -> None:
    transaction_id = header.transaction_id
    if transaction_id is None:
        if limits.require_transaction_id and body_type not in _WITHOUT_TRANSACTION:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "no transactionID")
    elif not limits.min_id_bytes <= len(transaction_id) <= limits.max_id_bytes:
        raise BadMessage(FailureInfo.BAD_REQUEST, f"a transactionID of {len(transaction_id)} bytes")
    nonce = header.sender_nonce
    if nonce is not None and not limits.min_id_bytes <= len(nonce) <= limits.max_id_bytes:
        raise BadMessage(FailureInfo.BAD_SENDER_NONCE, f"a senderNonce of {len(nonce)} bytes")
    nonce = header.recip_nonce
    if nonce is not None and not limits.min_id_bytes <= len(nonce) <= limits.max_id_bytes:
        raise BadMessage(FailureInfo.BAD_RECIPIENT_NONCE, f"a recipNonce of {len(nonce)} bytes")
    for kid in (header.sender_kid, header.recip_kid):
        if kid is not None and len(kid) > limits.max_kid_bytes:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"a key identifier of {len(kid)} bytes")
    if not (is_general_name(header.sender) and is_general_name(header.recipient)):
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "a sender or recipient that is no GeneralName")
    if size > limits.max_name_bytes:
        for name in (header.sender, header.recipient):
            if name.data.nbytes > limits.max_name_bytes:
                raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"a name of {name.data.nbytes} bytes")
    texts = header.free_text
    if texts is not None and (
        len(texts) > limits.max_free_text or sum([len(text) for text in texts]) > limits.max_text_bytes
    ):
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "too much freeText")
    infos = header.general_info
    if infos is not None and len(infos) > limits.max_general_info:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"{len(infos)} items of generalInfo")


def _extra_certs(value: TLV | Null, limits: Limits) -> tuple[bytes, ...]:
    data = der(value)
    certificates: list[bytes] = []
    for start, end in elements(data):
        if len(certificates) == limits.max_extra_certs:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"more than {limits.max_extra_certs} extraCerts")
        if end - start > limits.max_certificate_bytes:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"a certificate of {end - start} bytes in extraCerts")
        if data[start] != 0x30:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "an item of extraCerts that is no certificate")
        certificates.append(data[start:end])
    return tuple(certificates)


def _mac_parameters(algorithm: AlgorithmIdentifier, limits: Limits) -> MacParameterSet | None:
    """Parameters of a MAC, in form and within the limits; None when the protection is no MAC."""
    reader = _MAC_READERS.get(algorithm.algorithm)
    if reader is None:
        return None
    parameters = algorithm.parameters
    if not isinstance(parameters, TLV) or parameters.tag_bytes != b"0":
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "MAC parameters that are no SEQUENCE")
    try:
        return reader(parameters, limits)
    except ValueError as error:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "MAC parameters that do not decode") from error


def _pbm(parameters: TLV, limits: Limits) -> PBMParameter:
    content = bytes(parameters.data)
    tag, start, end = read_header(content, 0, len(content))
    if tag != 0x04:
        raise ValueError("a salt that is no OCTET STRING")
    salt, others = content[start:end], _pbm_without_salt(content[end:])
    _check_derivation(salt, others.iteration_count, limits)
    return PBMParameter(salt=salt, owf=others.owf, iteration_count=others.iteration_count, mac=others.mac)


@lru_cache(maxsize=64)
def _pbm_without_salt(tail: bytes) -> PBMParameter:
    """What follows the salt, with an empty one: it is the same in most messages, and takes longer to decode than to look up."""
    return decode_der(PBMParameter, wrap(0x30, b"\x04\x00" + tail))


def _pbmac1(parameters: TLV, limits: Limits) -> PBMAC1Params:
    result: PBMAC1Params = parameters.parse(PBMAC1Params)
    derivation = result.key_derivation_func
    if derivation.oid != oids.PBKDF2 or not isinstance(derivation.parameters, TLV):
        raise BadMessage(FailureInfo.BAD_ALG, "PBMAC1 with a key derivation that is not PBKDF2")
    pbkdf2 = derivation.parameters.parse(PBKDF2Params)
    _check_derivation(pbkdf2.salt, pbkdf2.iteration_count, limits)
    if pbkdf2.key_length is not None and not 1 <= pbkdf2.key_length <= 256:
        raise BadMessage(FailureInfo.BAD_ALG, "a PBKDF2 key length out of bounds")
    return result


def _kem(parameters: TLV, limits: Limits) -> KemBMParameter:
    result: KemBMParameter = parameters.parse(KemBMParameter)
    if not 1 <= result.len <= 256 or len(result.kem_context or b"") > limits.max_salt_bytes:
        raise BadMessage(FailureInfo.BAD_ALG, "KEM-based MAC parameters out of bounds")
    return result


def _check_derivation(salt: bytes, iterations: int, limits: Limits) -> None:
    if not limits.min_mac_iterations <= iterations <= limits.max_mac_iterations:
        raise BadMessage(FailureInfo.BAD_ALG, "a MAC iteration count out of bounds")
    if len(salt) > limits.max_salt_bytes:
        raise BadMessage(FailureInfo.BAD_ALG, f"a MAC salt of {len(salt)} bytes")


def _readers() -> dict[Any, Callable[[TLV, Limits], MacParameterSet]]:
    return {
        ObjectIdentifier(oids.PASSWORD_BASED_MAC): _pbm,
        ObjectIdentifier(oids.PBMAC1): _pbmac1,
        ObjectIdentifier(oids.KEM_BASED_MAC): _kem,
    }


_MAC_READERS = _readers()
