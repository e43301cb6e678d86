"""The rules of the protocol, each a function with a name, and the profiles that switch them.

A rule looks at a ``Check``, which holds what is known of a message so far, and returns what is wrong in words, or None.
Its failInfo, its place in the way of a message (``Stage``), the bodies it applies to and the profiles that have it stand
beside it, so that this file read from top to bottom is the table of what the server asks. ``RULES`` is that table.

Rules of form (one DER element, sizes, counts, known pvno, protectionAlg together with protection, iteration counts)
are the gate's, and the arithmetic of a protection is ``context.protection``'s; neither can be switched off. Rules at
``Stage.VERIFY`` without a function are switches that ``verify`` is given.

A text here is told to the peer: none says anything about why a credential failed.

Source: RFC 9483, 3.5 and 4; RFC 9810, 5; RFC 4211, 4.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from ipaddress import ip_address
from itertools import product
from typing import TypeAlias, TypedDict

from cryptography import x509
from cryptography.hazmat.asn1 import TLV, decode_der

from opensslcmp.asn1 import (
    BitString,
    CertId,
    Certificate,
    CertificationRequestInfo,
    CertReqMsg,
    CertStatus,
    Extension,
    KemBMParameter,
    Message,
    PKMACValue,
    POPOPrivKey,
    POPOSigningKey,
    RevDetails,
    bits,
    decode,
    decode_info,
    der,
    elements,
    oids,
    read_header,
)
from opensslcmp.asn1.controls import Controls
from opensslcmp.client.announcements import ANNOUNCEMENTS
from opensslcmp.context.certificates import facts, same_name
from opensslcmp.context.cms import PasswordRecipient, Recipient
from opensslcmp.context.encryption import key_type
from opensslcmp.context.keys import signature_algorithm, verify_signature
from opensslcmp.context.protection import ProtectionKind, Verified, verify_public_key_mac
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import BadMessage, ProtectionError, Rejected
from opensslcmp.server.escrow import Escrow
from opensslcmp.server.kem import Agreement
from opensslcmp.server.key_generation import KeyGenerator
from opensslcmp.server.peer import Peer
from opensslcmp.server.secret_book import FoundSecret
from opensslcmp.server.store import (
    CertificateRecord,
    CertificateState,
    Revocation,
    Transaction,
    TransactionState,
    certificate_key,
)

__all__ = [
    "LENIENT",
    "PROFILES",
    "PROOFS",
    "RFC9810",
    "RULES",
    "STRICT",
    "Check",
    "Rule",
    "Stage",
    "ValidationProfile",
    "VerifySwitches",
    "Wish",
    "adds_protection",
    "bits_of",
    "by_decryption",
    "by_secret",
    "central_key_kind",
    "central_key_recipient",
    "confirmation_hashes",
    "is_ra",
    "names_asked_for",
    "profile_named",
    "reason_of",
    "recovery_recipient",
    "short_hash",
    "signer_key",
    "wanted_reason",
]

F = FailureInfo
B = BodyType

_CROSS = frozenset((B.CCR,))
REQUESTS = frozenset((B.IR, B.CR, B.KUR, B.P10CR)) | _CROSS
CRMF = frozenset((B.IR, B.CR, B.KUR)) | _CROSS
OPENING = REQUESTS | {B.RR, B.GENM, B.KRR}
_RECOVERY = frozenset((B.KRR,))
FOLLOW_UP = frozenset((B.CERT_CONF, B.POLL_REQ, B.POPDECR, B.ERROR))
ACCEPTED = OPENING | FOLLOW_UP | {B.NESTED}
_EVERY = ACCEPTED | ANNOUNCEMENTS

_NULL = b"\x05\x00"
_EKU_CMC_CA = "1.3.6.1.5.5.7.3.27"
_EKU_CMC_RA = "1.3.6.1.5.5.7.3.28"
_SAN = "2.5.29.17"
_BASIC_CONSTRAINTS = "2.5.29.19"
_KEY_USAGE = "2.5.29.15"
_CRL_REASON = "2.5.29.21"


class Stage(IntEnum):
    """When a rule is checked; a message passes the stages in this order."""

    HEADER = 0
    VERIFY = 1
    REQUESTER = 2
    OPENING = 3
    FOLLOW_UP = 4
    REQUEST = 5
    CONFIRM = 6
    POLL = 7
    REVOKE = 8
    INFO = 9
    NESTED = 10
    PROVE = 11
    RECOVER = 12


@dataclass(slots=True)
class Wish:
    """One certificate request, whatever its syntax.

    Attributes:
        request_id: certReqId; -1 for p10cr.
        signed: the bytes that the proof of possession is over, unless it has its own input.
        message: CertReqMsg; None for p10cr.
        info: CertificationRequestInfo; None for CRMF.
        signature: AlgorithmIdentifier and bits of a p10cr's own signature.
    """

    request_id: int
    subject: bytes | None
    public_key: bytes | None
    extensions: tuple[Extension, ...]
    signed: bytes
    message: CertReqMsg | None = None
    info: CertificationRequestInfo | None = None
    signature: tuple[bytes, bytes] | None = None

    @property
    def asks_for_key(self) -> bool:
        """No public key, or an algorithm with an empty one: the key is to be made here (RFC 9483, 4.1.6)."""
        message = self.message
        return message is not None and (self.public_key is None or message.cert_req.cert_template.asks_for_key)

    @property
    def proof(self) -> str:
        """The kind of the proof of possession, as ``PROOFS`` names it; empty when there is none, or one of no known kind."""
        popo = self.message.popo if self.message is not None else None
        if popo is None:
            return ""
        if not isinstance(popo.value, TLV):
            return popo.tag
        try:
            private = POPOPrivKey.from_tlv(popo.value).value
        except ValueError:
            return ""
        if private.tag != "subsequentMessage":
            return private.tag
        return "indirect" if private.value == 0 else "challenge" if private.value == 1 else ""


PROOFS = frozenset(("signature", "raVerified", "indirect", "challenge"))
"""The proofs of possession that are understood: ``indirect`` is an encrypted certificate (RFC 9810, 5.2.8)."""


def by_decryption(wish: Wish) -> bool:
    """Possession is proved by decryption, before or after the certificate is issued."""
    return wish.proof in {"indirect", "challenge"}


_NOBODY = Verified(kind=ProtectionKind.NONE)


@dataclass(slots=True)
class Check:
    """What is known about a message on its way; each stage adds to it.

    Attributes:
        signer: the Responder's record of the certificate that signed the message.
        secret: the secret that its MAC was made with.
        issued_here: the certificate that signed the message is one of the authority's own.
        listed: it is listed as a registration authority's.
        ra: the requester is an authorised registration authority.
        asked, asked_twice: keys and subjects that earlier requests of the message are for, and whether this one is again.
        cert_profile: the issuing profile that ``wish`` names, or that is for who names none.
        check_key: of this profile; raises Rejected for a public key that is not certified.
        position: of ``wish`` in the message.
        record: of the certificate that is to be confirmed or revoked.
        inner: the messages in a nested one.
        outer: who protected the nested message that this one came in; ``batched``: as one of a batch.
        revoked: why and when it was, or None.
        unconfirmed: some certificate of the transaction is to be confirmed while others of its message are waited for.
        signer_held: the signer's certificate is on hold, and not revoked for good.
        proofs: of possession that are accepted.
        kem_question: it asks for a KEM ciphertext, to protect what follows with.
        agreement: what was encapsulated to the requester of a message with a KEM-based MAC.
        key_generator: makes keys for who asks for one; None: nobody gets any.
        escrow: archives keys and gives them back; None: nothing is archived.
        recovery: the request in a krr.
    """

    message: Message
    peer: Peer
    now: float
    profile: ValidationProfile
    verified: Verified = _NOBODY
    signer: CertificateRecord | None = None
    secret: FoundSecret | None = None
    ra: bool = False
    transaction: Transaction | None = None
    open_transactions: tuple[int, int] = (0, 0)
    reuse_key: bool = False
    reissue: bool = True
    certified: CertificateRecord | None = None
    cert_profile: str | None = None
    check_key: Callable[[bytes], None] | None = None
    asked: set[bytes] = field(default_factory=set)
    asked_twice: bool = False
    wish: Wish | None = None
    wishes: int = 1
    position: int = 0
    status: CertStatus | None = None
    statuses: tuple[CertStatus, ...] = ()
    record: CertificateRecord | None = None
    revocation: RevDetails | None = None
    revocations: int = 1
    inner: tuple[Message, ...] = ()
    outer: Verified | None = None
    batched: bool = False
    issued_here: bool = False
    listed: bool = False
    revoked: Revocation | None = None
    unconfirmed: bool = False
    signer_held: bool = False
    proofs: frozenset[str] = PROOFS
    kem_question: bool = False
    agreement: Agreement | None = None
    key_generator: KeyGenerator | None = None
    escrow: Escrow | None = None
    recovery: CertReqMsg | None = None

    @property
    def begun(self) -> Transaction:
        """The transaction, which the stage is reached only with."""
        assert self.transaction is not None
        return self.transaction

    @property
    def request(self) -> Wish:
        """The wish, which the stage is reached only with."""
        assert self.wish is not None
        return self.wish

    @property
    def details(self) -> RevDetails:
        """RevDetails, which the stage is reached only with."""
        assert self.revocation is not None
        return self.revocation


Checker: TypeAlias = Callable[[Check], str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table.

    Attributes:
        check: None for a switch of ``verify``.
        bodies: that it applies to.
        profiles: that have it.
        of_general_info: a message without generalInfo cannot break it.
    """

    name: str
    stage: Stage
    failure: FailureInfo
    source: str
    bodies: frozenset[BodyType]
    profiles: frozenset[str]
    check: Checker | None
    of_general_info: bool = False

    @property
    def text(self) -> str:
        """What it asks, in one line."""
        return (self.check.__doc__ or "").strip() if self.check else self.name.replace("_", " ")


RULES: dict[str, Rule] = {}
_ALL = ("rfc9810", "strict", "lenient")
_STRICT = ("strict",)
_NOT_LENIENT = ("rfc9810", "strict")


def _rule(
    stage: Stage,
    failure: FailureInfo,
    source: str,
    *,
    bodies: frozenset[BodyType] = ACCEPTED,
    profiles: Iterable[str] = _ALL,
    of_general_info: bool = False,
) -> Callable[[Checker], Rule]:
    def add(check: Checker) -> Rule:
        rule = Rule(check.__name__, stage, failure, source, bodies, frozenset(profiles), check, of_general_info)
        RULES[rule.name] = rule
        return rule

    return add


def _switch(name: str, failure: FailureInfo, source: str, profiles: Iterable[str]) -> None:
    RULES[name] = Rule(name, Stage.VERIFY, failure, source, ACCEPTED, frozenset(profiles), None)


def by_secret(message: Message) -> bool:
    """It has a MAC under a shared secret."""
    return message.mac is not None and not isinstance(message.mac, KemBMParameter)


# -- header --------------------------------------------------------------------------------------------------------


@_rule(Stage.HEADER, F.BAD_MESSAGE_CHECK, "RFC 9483, 3.1", bodies=_EVERY)
def sender_is_a_name(check: Check) -> str | None:
    """sender is a directoryName."""
    return "sender is not a directoryName" if check.message.sender is None else None


@_rule(Stage.HEADER, F.BAD_DATA_FORMAT, "RFC 9483, 3.1")
def transaction_id_is_there(check: Check) -> str | None:
    """transactionID is there."""
    return "no transactionID" if check.message.transaction_id is None else None


@_rule(Stage.HEADER, F.BAD_REQUEST, "RFC 9810, 5.1.1", profiles=_STRICT)
def transaction_id_has_16_bytes(check: Check) -> str | None:
    """transactionID has 16 bytes (8 to 64 otherwise, by the gate)."""
    return "transactionID does not have 16 bytes" if len(check.message.transaction_id or b"") != 16 else None


@_rule(Stage.HEADER, F.BAD_SENDER_NONCE, "RFC 9483, 3.1")
def sender_nonce_is_there(check: Check) -> str | None:
    """senderNonce is there."""
    return "no senderNonce" if check.message.sender_nonce is None else None


@_rule(Stage.HEADER, F.BAD_SENDER_NONCE, "RFC 9483, 3.1", profiles=_STRICT)
def sender_nonce_has_16_bytes(check: Check) -> str | None:
    """senderNonce has 16 bytes (8 to 64 otherwise, by the gate)."""
    return "senderNonce does not have 16 bytes" if len(check.message.sender_nonce or b"") != 16 else None


@_rule(Stage.HEADER, F.BAD_RECIPIENT_NONCE, "RFC 9483, 3.1", bodies=OPENING)
def no_recip_nonce_at_first(check: Check) -> str | None:
    """An opening request has no recipNonce, but that of the genp that brought the KEM ciphertext it is protected with."""
    nonce = check.message.recip_nonce
    if nonce is None or (check.agreement is not None and check.agreement.record.nonce == nonce):
        return None
    return "recipNonce in the first message"


@_rule(Stage.HEADER, F.BAD_TIME, "RFC 9483, 3.1", bodies=_EVERY, profiles=_STRICT)
def message_time_is_there(check: Check) -> str | None:
    """messageTime is there."""
    return "no messageTime" if check.message.message_time is None else None


@_rule(Stage.HEADER, F.BAD_TIME, "RFC 9483, 3.5", bodies=_EVERY)
def message_time_is_near(check: Check) -> str | None:
    """messageTime, when there, is near our time."""
    moment = check.message.message_time
    if moment is None or abs(moment.timestamp() - check.now) <= check.profile.message_time_seconds:
        return None
    return "messageTime is too far from the server's time"


_OPERATIONS = {
    "initialization": (B.IR, B.NESTED),
    "certification": (B.CR, B.NESTED),
    "keyupdate": (B.KUR, B.NESTED),
    "pkcs10": (B.P10CR, B.NESTED),
    "revocation": (B.RR, B.NESTED),
    "getcacerts": (B.GENM,),
    "getrootupdate": (B.GENM,),
    "getcertreqtemplate": (B.GENM,),
    "getcrls": (B.GENM,),
    "nested": (B.NESTED,),
}
_OPERATION_INFOS = {
    "getcacerts": frozenset((oids.IT_CA_CERTS,)),
    "getrootupdate": frozenset((oids.IT_ROOT_CA_CERT,)),
    "getcertreqtemplate": frozenset((oids.IT_CERT_REQ_TEMPLATE,)),
    "getcrls": frozenset((oids.IT_CRL_STATUS_LIST, oids.IT_CURRENT_CRL)),
}


@_rule(Stage.OPENING, F.BAD_REQUEST, "RFC 9811, 3.4; RFC 9483, 6.1", bodies=OPENING | {B.NESTED})
def body_is_for_the_paths_operation(check: Check) -> str | None:
    """The body is one that the operation in the path is for."""
    operation = check.peer.operation
    if operation is None or check.kem_question or check.message.body_type in _OPERATIONS.get(operation, ()):
        return None
    return f"{check.message.body_type.text} is not for the operation {operation}"


@_rule(Stage.HEADER, F.WRONG_INTEGRITY, "RFC 9483, 3.2", bodies=_EVERY)
def message_is_protected(check: Check) -> str | None:
    """The message is protected, unless it asks for a KEM ciphertext to protect what follows with."""
    missing = check.message.protection is None and not check.batched and not check.kem_question
    return "the message is not protected" if missing else None


@_rule(Stage.HEADER, F.WRONG_INTEGRITY, "RFC 9483, 5.2.2.2")
def batched_message_is_protected(check: Check) -> str | None:
    """A message in a batch is protected too; where this is off, who signed the batch speaks for it as an RA."""
    missing = check.message.protection is None and check.batched
    return "a message in the batch is not protected" if missing else None


@_rule(Stage.HEADER, F.WRONG_INTEGRITY, "RFC 9483, 4.1.3", bodies=frozenset((B.KUR,)))
def update_is_signed(check: Check) -> str | None:
    """A kur is signed, or has a KEM-based MAC, by the certificate that is to be updated."""
    signed = not by_secret(check.message) and check.message.protection is not None
    return None if signed else "a key update must be signed with the certificate to be updated"


@_rule(Stage.HEADER, F.WRONG_INTEGRITY, "RFC 9483, 4.2", bodies=frozenset((B.RR,)), profiles=_NOT_LENIENT)
def revocation_is_signed(check: Check) -> str | None:
    """An rr is signed, or has a KEM-based MAC, by the certificate itself or an RA."""
    return "a revocation must be signed" if by_secret(check.message) else None


_OF_CMP = frozenset((oids.IT_IMPLICIT_CONFIRM, oids.IT_CONFIRM_WAIT_TIME, oids.IT_CERT_PROFILE))


@_rule(Stage.HEADER, F.BAD_REQUEST, "RFC 9483, 3.1", profiles=_NOT_LENIENT, of_general_info=True)
def general_info_is_there_once(check: Check) -> str | None:
    """implicitConfirm, confirmWaitTime and certProfile are in generalInfo once."""
    told = [each.oid for each in check.message.header.general_info or () if each.oid in _OF_CMP]
    return "an item of generalInfo is there twice" if len(set(told)) < len(told) else None


@_rule(Stage.HEADER, F.BAD_DATA_FORMAT, "RFC 9810, 5.1.1.1", of_general_info=True)
def implicit_confirm_is_null(check: Check) -> str | None:
    """implicitConfirm has the value NULL."""
    item = check.message.header.info(oids.IT_IMPLICIT_CONFIRM)
    return None if item is None or item.value_der == _NULL else "implicitConfirm does not have the value NULL"


@_rule(
    Stage.HEADER,
    F.BAD_REQUEST,
    "RFC 9810, 5.1.1.1",
    bodies=ACCEPTED - REQUESTS,
    profiles=_NOT_LENIENT,
    of_general_info=True,
)
def implicit_confirm_is_for_requests(check: Check) -> str | None:
    """implicitConfirm is asked for in ir, cr, kur and p10cr only."""
    return "implicitConfirm does not belong here" if check.message.implicit_confirm else None


@_rule(Stage.HEADER, F.BAD_REQUEST, "RFC 9810, 5.1.1.2", profiles=_NOT_LENIENT, of_general_info=True)
def confirm_wait_time_is_ours(check: Check) -> str | None:
    """confirmWaitTime is said by the server only."""
    there = check.message.header.info(oids.IT_CONFIRM_WAIT_TIME) is not None
    return "confirmWaitTime does not belong into a request" if there else None


@_rule(Stage.HEADER, F.BAD_DATA_FORMAT, "RFC 9810, 5.1.1.4", of_general_info=True)
def cert_profile_is_a_list_of_texts(check: Check) -> str | None:
    """certProfile is a SEQUENCE OF UTF8String."""
    try:
        names = check.message.cert_profile
    except BadMessage as error:
        return error.text
    there = check.message.header.info(oids.IT_CERT_PROFILE) is not None
    return "certProfile is empty" if there and not names else None


# OpenSSL 3.3 and newer repeat it in certConf and pollReq (-profile of openssl-cmp(1)).
@_rule(
    Stage.HEADER,
    F.BAD_REQUEST,
    "RFC 9810, 5.1.1.4",
    bodies=ACCEPTED - REQUESTS - {B.GENM},
    profiles=_STRICT,
    of_general_info=True,
)
def cert_profile_is_for_requests(check: Check) -> str | None:
    """certProfile is in ir, cr, kur, p10cr and genm only."""
    return "certProfile does not belong here" if check.message.cert_profile else None


# -- protection ----------------------------------------------------------------------------------------------------

_switch("mac_sender_is_the_reference", F.BAD_MESSAGE_CHECK, "RFC 9483, 3.1", _STRICT)
_switch("sender_kid_is_there", F.BAD_MESSAGE_CHECK, "RFC 9483, 3.1", _NOT_LENIENT)
_switch("signer_is_first_of_extra_certs", F.BAD_MESSAGE_CHECK, "RFC 9483, 3.3", _NOT_LENIENT)
_switch("key_usage_allows_signing", F.NOT_AUTHORIZED, "RFC 9483, 3.2", _NOT_LENIENT)

# -- requester -----------------------------------------------------------------------------------------------------


@_rule(Stage.REQUESTER, F.SIGNER_NOT_TRUSTED, "RFC 9483, 3.5")
def signer_is_recorded(check: Check) -> str | None:
    """A signer's certificate that this CA issued is in its records, or listed as an RA's: none was issued behind its back."""
    unknown = check.issued_here and check.signer is None and not check.listed
    return "the signer is not trusted" if unknown else None


@_rule(Stage.REQUESTER, F.CERT_REVOKED, "RFC 9483, 3.5")
def signer_is_in_force(check: Check) -> str | None:
    """The signer's certificate, when it is ours, was not revoked and not updated."""
    signer = check.signer
    if signer is None or signer.state not in {CertificateState.REVOKED, CertificateState.UPDATED}:
        return None
    if check.signer_held and _releases(check.message, signer):
        return None
    return "the signer's certificate is not in force any more"


def _releases(message: Message, signer: CertificateRecord) -> bool:
    """The message asks for nothing but that its signer's own certificate be released."""
    items: list[RevDetails] = message.content() if message.body_type is B.RR else []
    issuer = facts(signer.certificate).issuer
    return bool(items) and all(
        wanted_reason(each) is RevocationReason.REMOVE_FROM_CRL
        and each.cert_details.serial_number == signer.serial_number
        and same_name(each.cert_details.issuer_der or b"", issuer)
        for each in items
    )


@_rule(Stage.REQUESTER, F.BAD_REQUEST, "RFC 9483, 4.1.3", bodies=OPENING - {B.GENM})
def no_update_is_open(check: Check) -> str | None:
    """No update of the signer's certificate is open."""
    if check.signer is None or check.signer.state is not CertificateState.UPDATING:
        return None
    return "an update of this certificate is not confirmed yet"


@_rule(Stage.REQUESTER, F.BAD_REQUEST, "RFC 9810, 5.2.8", bodies=OPENING)
def signer_is_confirmed(check: Check) -> str | None:
    """The signer's certificate, when it is ours, is confirmed."""
    if check.signer is None or check.signer.state is not CertificateState.UNCONFIRMED:
        return None
    return "the signer's certificate is not confirmed yet"


@_rule(Stage.REQUESTER, F.NOT_AUTHORIZED, "RFC 9810, 5.1.3.1", bodies=REQUESTS | _RECOVERY)
def secret_is_not_used_up(check: Check) -> str | None:
    """A single-use secret is used once."""
    if check.secret is None or not check.secret.single_use or check.secret.used_at is None:
        return None
    return "not authorised to ask for another certificate"


# -- transaction ---------------------------------------------------------------------------------------------------


@_rule(Stage.OPENING, F.TRANSACTION_ID_IN_USE, "RFC 9483, 3.5", bodies=OPENING)
def transaction_id_is_free(check: Check) -> str | None:
    """An opening request has a transactionID that is not in use."""
    return "this transactionID is in use" if check.transaction is not None else None


@_rule(Stage.OPENING, F.SYSTEM_UNAVAIL, "RFC 9810, 5.2.3", bodies=OPENING)
def open_transactions_are_bounded(check: Check) -> str | None:
    """There are not too many open transactions, in all and of this credential."""
    total, own = check.open_transactions
    if total >= check.profile.max_open_transactions:
        return "too many transactions are open; try again later"
    if own >= check.profile.max_open_per_credential:
        return "too many transactions of this requester are open; confirm them first"
    return None


@_rule(Stage.FOLLOW_UP, F.BAD_REQUEST, "RFC 9483, 3.5", bodies=FOLLOW_UP)
def transaction_is_known(check: Check) -> str | None:
    """A follow-up belongs to a transaction that is known."""
    return "no such transaction" if check.transaction is None else None


@_rule(Stage.FOLLOW_UP, F.WRONG_INTEGRITY, "RFC 9483, 3.2", bodies=FOLLOW_UP)
def protection_is_of_the_same_kind(check: Check) -> str | None:
    """A follow-up is protected like the request: MAC or signature."""
    is_mac = check.begun.identity.startswith(b"mac:")
    same = is_mac is (check.verified.kind is ProtectionKind.MAC)
    return None if same else "not the kind of protection that the transaction began with"


@_rule(Stage.FOLLOW_UP, F.WRONG_AUTHORITY, "RFC 9483, 4.1.1", bodies=FOLLOW_UP)
def new_certificate_does_not_sign(check: Check) -> str | None:
    """A follow-up is not signed with the certificate that is to be confirmed."""
    if check.signer is None or check.signer.key not in {key for _, key in check.begun.certificates}:
        return None
    return "signed with the new certificate"


@_rule(Stage.FOLLOW_UP, F.BAD_REQUEST, "RFC 9483, 3.5", bodies=FOLLOW_UP)
def credential_is_the_same(check: Check) -> str | None:
    """A follow-up has the credential that the transaction began with."""
    return None if check.verified.identity == check.begun.identity else "no such transaction"


@_rule(Stage.FOLLOW_UP, F.BAD_REQUEST, "RFC 9811, 3.4", bodies=FOLLOW_UP)
def transaction_stays_at_its_label(check: Check) -> str | None:
    """A follow-up comes by the label that the transaction began at: what is approved there is issued by its profiles."""
    label = check.begun.label
    return None if label is None or label == (check.peer.label or "") else "the transaction began at another label"


@_rule(Stage.FOLLOW_UP, F.BAD_MESSAGE_CHECK, "RFC 9483, 3.2", bodies=FOLLOW_UP, profiles=_NOT_LENIENT)
def mac_algorithm_is_the_same(check: Check) -> str | None:
    """A follow-up under a MAC has the MAC algorithm of the request."""
    if check.verified.kind is not ProtectionKind.MAC or check.message.protection_algorithm == check.begun.algorithm:
        return None
    return "not the MAC algorithm that the transaction began with"


@_rule(Stage.FOLLOW_UP, F.BAD_RECIPIENT_NONCE, "RFC 9483, 3.5", bodies=FOLLOW_UP, profiles=_NOT_LENIENT)
def recip_nonce_is_there(check: Check) -> str | None:
    """A follow-up has a recipNonce."""
    return "no recipNonce" if check.message.recip_nonce is None else None


@_rule(Stage.FOLLOW_UP, F.BAD_RECIPIENT_NONCE, "RFC 9483, 3.5", bodies=FOLLOW_UP)
def recip_nonce_is_ours(check: Check) -> str | None:
    """recipNonce is the senderNonce of our last answer."""
    nonce = check.message.recip_nonce
    return None if nonce is None or nonce == check.begun.nonce else "recipNonce is not the last senderNonce"


@_rule(Stage.FOLLOW_UP, F.BAD_SENDER_NONCE, "RFC 9483, 3.5", bodies=FOLLOW_UP)
def sender_nonce_is_fresh(check: Check) -> str | None:
    """senderNonce was not seen before in the transaction."""
    seen, nonce = check.begun.nonces, short_hash(check.message.sender_nonce or b"")
    if nonce in seen and any(seen[at : at + 16] == nonce for at in range(0, len(seen), 16)):
        return "senderNonce was used before"
    return None


@_rule(Stage.FOLLOW_UP, F.BAD_REQUEST, "RFC 9810, 5.3.22", bodies=FOLLOW_UP)
def messages_are_bounded(check: Check) -> str | None:
    """A transaction has not too many messages."""
    if len(check.begun.nonces) // 16 < check.profile.max_messages_per_transaction:
        return None
    return "too many messages in this transaction"


# -- certificate requests ------------------------------------------------------------------------------------------


@_rule(Stage.REQUEST, F.BAD_REQUEST, "RFC 9483, 4.1.1", bodies=CRMF)
def requests_are_not_too_many(check: Check) -> str | None:
    """There is one CertReqMsg, or as many as the profile allows."""
    return None if check.wishes <= check.profile.max_requests else f"more than {check.profile.max_requests} requests"


@_rule(Stage.REQUEST, F.BAD_REQUEST, "RFC 9483, 4.1.1", bodies=CRMF)
def request_ids_count_from_zero(check: Check) -> str | None:
    """certReqId is 0, 1..."""
    return None if check.request.request_id == check.position else "certReqId does not count from 0"


@_rule(Stage.REQUEST, F.BAD_REQUEST, "RFC 9810, 5.1.1.4", bodies=REQUESTS, of_general_info=True)
def cert_profiles_are_as_many_as_requests(check: Check) -> str | None:
    """certProfile names as many profiles as there are requests."""
    names = check.message.cert_profile
    return None if not names or len(names) == check.wishes else "not as many certProfiles as requests"


@_rule(Stage.REQUEST, F.BAD_CERT_TEMPLATE, "RFC 9483, 4.1.6", bodies=REQUESTS)
def public_key_is_there(check: Check) -> str | None:
    """The request has a public key, or asks for one where keys are generated: for an ir, cr or kur, if that is switched on."""
    request = check.request
    if request.public_key is not None and not request.asks_for_key:
        return None
    if check.key_generator is not None and request.asks_for_key and check.message.body_type is not B.CCR:
        return None
    return "no public key, and keys are not generated here"


# OpenSSL 3.5 says pvno 2 when it asks for a key.
@_rule(Stage.REQUEST, F.BAD_REQUEST, "RFC 9483, 4.1.6; RFC 9810, 7", bodies=CRMF, profiles=_STRICT)
def central_key_needs_version_3(check: Check) -> str | None:
    """Who asks for a key says pvno 3, since it comes in EnvelopedData."""
    old = check.request.asks_for_key and check.message.header.pvno < 3
    return "a request for a key needs pvno 3" if old else None


@_rule(Stage.REQUEST, F.BAD_CERT_TEMPLATE, "RFC 9483, 4.1.6", bodies=CRMF)
def central_key_is_of_a_kind_that_is_made(check: Check) -> str | None:
    """The algorithm in a template without key is one that keys are generated for."""
    if not check.request.asks_for_key or central_key_kind(check) is not None:
        return None
    return "keys of this kind are not generated here"


@_rule(Stage.REQUEST, F.NOT_AUTHORIZED, "RFC 9483, 4.1.6", bodies=CRMF)
def central_key_can_be_received(check: Check) -> str | None:
    """Who asks for a key has a secret, or a certificate whose keyUsage allows keyEncipherment or keyAgreement."""
    if not check.request.asks_for_key or central_key_recipient(check) is not None:
        return None
    return "this credential cannot receive a private key"


@_rule(Stage.REQUEST, F.BAD_POP, "RFC 9483, 4.1.6", bodies=CRMF)
def central_key_has_no_proof(check: Check) -> str | None:
    """Who asks for a key proves possession of none."""
    message = check.request.message
    there = check.request.asks_for_key and message is not None and message.popo is not None
    return "a proof of possession of a key that is to be generated" if there else None


def central_key_kind(check: Check) -> str | None:
    """The kind of key that is made for the request; None: none is."""
    message, generator = check.request.message, check.key_generator
    if generator is None or message is None:
        return None
    return generator.kind_for(message.cert_req.cert_template.public_key)


def central_key_recipient(check: Check) -> Recipient | PasswordRecipient | None:
    """For whom the key is sealed; None: the credential cannot receive one."""
    if check.key_generator is None:
        return None
    secret = check.secret.value if check.secret is not None else None
    return check.key_generator.recipient(check.verified, secret)


@_rule(Stage.REQUEST, F.BAD_POP, "RFC 4211, 6.4", bodies=CRMF - _CROSS)
def key_to_archive_is_that_of_the_request(check: Check) -> str | None:
    """Where keys are archived: encryptedPrivKey opens for the escrow, and is the private key of the template's public key."""
    if check.escrow is None or check.request.message is None:
        return None
    try:
        options = Controls.of(check.request.message).archive
        check.escrow.sent(options, check.request.public_key or b"")
    except (Rejected, ValueError):
        return "the key to archive does not open, or is not that of the request"
    return None


@_rule(Stage.REQUEST, F.BAD_CERT_TEMPLATE, "RFC 9483, 4.1.1; RFC 9810, 5.2.1", bodies=REQUESTS - _CROSS)
def key_is_one_that_is_certified(check: Check) -> str | None:
    """Type and size of the public key are those of the issuing profile; that is told before any proof of possession by it."""
    if check.check_key is None or check.request.asks_for_key:
        return None
    try:
        check.check_key(check.request.public_key or b"")
    except Rejected as error:
        return "; ".join(error.text)
    return None


@_rule(Stage.REQUEST, F.BAD_CERT_TEMPLATE, "RFC 9483, 4.1.1", bodies=REQUESTS - {B.KUR})
def subject_or_san_is_there(check: Check) -> str | None:
    """The request has a subject or a subjectAltName; a kur without has those of the old certificate."""
    request = check.request
    if (request.subject or b"0\0") != b"0\0" or any(each.oid == _SAN for each in request.extensions):
        return None
    return "neither subject nor subjectAltName"


@_rule(Stage.REQUEST, F.NOT_AUTHORIZED, "RFC 9483, 4.1.4", bodies=REQUESTS)
def secret_is_for_the_names(check: Check) -> str | None:
    """With a secret that is bound to names, these are asked for: subject and each subjectAltName match its pattern."""
    pattern = check.secret.subject if check.secret is not None else None
    if pattern is None:
        return None
    for text in names_asked_for(check.request):
        if text is None or not re.fullmatch(pattern, text):
            return "not authorised to ask for this name"
    return None


@_rule(Stage.REQUEST, F.NOT_AUTHORIZED, "RFC 9483, 4.1.4", bodies=REQUESTS)
def secret_is_for_the_profile(check: Check) -> str | None:
    """With a secret that is bound to issuing profiles, one of these is asked for."""
    bound = check.secret.profiles if check.secret is not None else ()
    return None if not bound or check.cert_profile in bound else "not authorised to ask for this certProfile"


@_rule(Stage.REQUEST, F.NOT_AUTHORIZED, "RFC 9483, 4.1.2", bodies=REQUESTS - {B.KUR} - _CROSS, profiles=())
def signer_asks_for_its_own_names(check: Check) -> str | None:
    """Who signs with a certificate asks for its subject, and its subjectAltName or none; registration authorities for any."""
    certificate = check.verified.certificate
    if certificate is None or check.ra:
        return None
    if not same_name(check.request.subject or b"0\0", facts(certificate).subject):
        return "the subject is not that of the signer"
    held = decode(Certificate, certificate).tbs.extension(_SAN)
    if any(each.oid == _SAN and each.extn_value != held for each in check.request.extensions):
        return "the subjectAltName is not that of the signer"
    return None


_NAME_KINDS = {0x81: "email", 0x82: "DNS", 0x86: "URI"}


def names_asked_for(request: Wish) -> list[str | None]:
    """Subject as RFC 4514 writes it, unless it is empty, and each subjectAltName as ``DNS:a.example``; None: of another kind."""
    found: list[str | None] = []
    try:
        if (request.subject or b"0\0") != b"0\0":
            found.append(decode(x509.Name, request.subject or b"").rfc4514_string())
        for value in [each.extn_value for each in request.extensions if each.oid == _SAN]:
            for start, end in elements(value):
                tag, content, _ = read_header(value, start, end)
                name = value[content:end]
                if tag in _NAME_KINDS:
                    found.append(f"{_NAME_KINDS[tag]}:{name.decode('ascii')}")
                else:
                    found.append(f"IP:{ip_address(name)}" if tag == 0x87 else None)
    except ValueError:
        return [None]
    return found


@_rule(Stage.REQUEST, F.BAD_CERT_TEMPLATE, "RFC 4211, 5", bodies=CRMF - _CROSS)
def template_leaves_the_rest_to_us(check: Check) -> str | None:
    """The template has no serialNumber, no signingAlg, no unique identifiers, and asks for v3 when for a version."""
    request = check.request
    assert request.message is not None
    template = request.message.cert_req.cert_template
    if template.serial_number is not None or template.signing_alg is not None:
        return "serialNumber and signingAlg are not for the requester"
    if template.issuer_uid is not None or template.subject_uid is not None:
        return "unique identifiers are not issued"
    return "only certificates of version 3 are issued" if template.version not in {None, 2} else None


@_rule(Stage.REQUEST, F.BAD_CERT_TEMPLATE, "RFC 2986, 4.1", bodies=frozenset((B.P10CR,)))
def csr_has_version_1(check: Check) -> str | None:
    """A PKCS #10 request has version v1."""
    info = check.request.info
    return None if info is None or info.version == 0 else "the request is not of version 1"


@_rule(Stage.REQUEST, F.BAD_CERT_TEMPLATE, "RFC 5280, 4.2")
def extensions_are_there_once(check: Check) -> str | None:
    """No extension is there twice."""
    extensions = check.request.extensions
    return None if len({each.oid for each in extensions}) == len(extensions) else "an extension is there twice"


@_rule(Stage.REQUEST, F.BAD_CERT_TEMPLATE, "RFC 5280, 4.2.1.9", bodies=REQUESTS)
def basic_constraints_fit(check: Check) -> str | None:
    """An end entity's certificate has no path length and no keyCertSign."""
    values = {each.oid: each.extn_value for each in check.request.extensions}
    basic = values.get(_BASIC_CONSTRAINTS)
    if basic is None:
        return None
    try:
        parts = [basic[a:b] for a, b in elements(basic)]
        usage = bits_of(values.get(_KEY_USAGE))
    except ValueError:
        return "an extension that does not decode"
    if b"\x01\x01\xff" in parts:
        return None
    if any(part[:1] == b"\x02" for part in parts) or usage & 0x0400:
        return "a path length or keyCertSign for a certificate that is not a CA's"
    return None


def bits_of(key_usage: bytes | None) -> int:
    """keyUsage as a number of 16 bits, bit 0 highest; 0 when absent.

    Raises:
        ValueError: it does not decode.
    """
    if key_usage is None:
        return 0
    return int.from_bytes(decode_der(BitString, key_usage).as_bytes()[:2].ljust(2, b"\0"), "big")


@_rule(Stage.REQUEST, F.BAD_CERT_ID, "RFC 9483, 4.1.3", bodies=frozenset((B.KUR,)))
def update_is_of_our_certificate(check: Check) -> str | None:
    """The certificate that signed a kur is one that was issued here."""
    return None if check.signer is not None else "the certificate to be updated was not issued here"


@_rule(Stage.REQUEST, F.BAD_CERT_ID, "RFC 9483, 4.1.3", bodies=frozenset((B.KUR,)))
def old_cert_id_names_the_signer(check: Check) -> str | None:
    """oldCertId, when there, names the certificate that signed the kur."""
    message = check.request.message
    control = message.cert_req.control(oids.REG_CTRL_OLD_CERT_ID) if message else None
    if control is None or check.verified.certificate is None:
        return None
    try:
        named = decode(CertId, der(control))
    except ValueError:
        return "oldCertId does not decode"
    about = facts(check.verified.certificate)
    if named.serial_number == about.serial_number and same_name(named.issuer_der or b"", about.issuer):
        return None
    return "oldCertId is not the certificate that signed the request"


@_rule(Stage.REQUEST, F.BAD_CERT_TEMPLATE, "RFC 9483, 4.1.3", bodies=frozenset((B.KUR,)))
def updated_key_is_new(check: Check) -> str | None:
    """A kur brings a new key, unless the issuing profile allows the old one."""
    if check.reuse_key or check.verified.certificate is None:
        return None
    same = facts(check.verified.certificate).spki == check.request.public_key
    return "the key is the one that is to be updated" if same else None


@_rule(Stage.REQUEST, F.DUPLICATE_CERT_REQ, "RFC 9810, 5.2.3", bodies=REQUESTS - {B.KUR})
def key_and_subject_are_new(check: Check) -> str | None:
    """The same key and subject are not certified already, unless the issuing profile re-issues."""
    if check.reissue:
        return None
    if check.asked_twice:
        return "this key and subject are asked for twice"
    return "this key and subject have a certificate" if check.certified is not None else None


@_rule(Stage.REQUEST, F.BAD_POP, "RFC 4211, 4", bodies=CRMF)
def possession_is_proven(check: Check) -> str | None:
    """There is a proof of possession."""
    message = check.request.message
    missing = message is not None and message.popo is None and not check.request.asks_for_key
    return "no proof of possession" if missing else None


@_rule(Stage.REQUEST, F.NOT_AUTHORIZED, "RFC 9483, 5.2.3.2", bodies=CRMF)
def ra_verified_is_said_by_an_ra(check: Check) -> str | None:
    """raVerified is said by an authorised RA only."""
    message = check.request.message
    if message is None or message.popo is None or message.popo.tag != "raVerified" or check.ra:
        return None
    return "raVerified is for registration authorities"


@_rule(Stage.REQUEST, F.BAD_POP, "RFC 9810, 5.2.8.4", bodies=CRMF)
def proof_is_of_an_accepted_kind(check: Check) -> str | None:
    """A proof of possession is of a kind that is accepted: a signature, raVerified, an encrypted certificate, a challenge."""
    message = check.request.message
    if message is None or message.popo is None or check.request.proof in check.proofs:
        return None
    return f"a proof of possession by {check.request.proof or message.popo.tag} is not accepted"


@_rule(Stage.REQUEST, F.BAD_POP, "RFC 9810, 5.2.8.3; RFC 4211, 4.2 and 4.3", bodies=CRMF)
def proof_fits_the_key(check: Check) -> str | None:
    """A key for encryption is proved under keyEncipherment, one for key agreement under keyAgreement; with pvno 2 RSA only."""
    request = check.request
    if request.message is None or request.message.popo is None or not by_decryption(request):
        return None
    try:
        kind = key_type(request.public_key or b"")
    except ValueError:
        kind = ""
    if not kind:
        return "nothing can be encrypted to this key: it signs"
    if check.message.header.pvno < 3 and kind != "RSA":
        return "this proof of possession needs pvno 3"
    fitting = "keyEncipherment" if kind in {"RSA", "ML-KEM"} else "keyAgreement"
    return None if request.message.popo.tag == fitting else f"this key is proved under {fitting}"


@_rule(Stage.REQUEST, F.BAD_POP, "RFC 9810, 5.2.8.2", bodies=CRMF)
def key_that_is_to_sign_signs(check: Check) -> str | None:
    """Who asks for a key usage that signs proves possession by a signature."""
    usage = next((each.extn_value for each in check.request.extensions if each.oid == _KEY_USAGE), None)
    if usage is None or not by_decryption(check.request):
        return None
    try:
        signs = bits_of(usage) & 0xC600
    except ValueError:
        return "an extension that does not decode"
    return "a key that is to sign is proved by a signature" if signs else None


@_rule(Stage.REQUEST, F.BAD_POP, "RFC 4211, 4.1", bodies=CRMF, profiles=_NOT_LENIENT)
def popo_input_is_not_there_needlessly(check: Check) -> str | None:
    """poposkInput is not there beside a template with subject and key."""
    popo = _signature_popo(check)
    if popo is None or popo.poposk_input is None or check.request.subject is None:
        return None
    return "poposkInput beside a complete template"


# OpenSSL signs the CertRequest even when the template has no subject (crmf_lib.c, OSSL_CRMF_MSG_create_popo).
@_rule(Stage.REQUEST, F.BAD_POP, "RFC 4211, 4.1", bodies=CRMF, profiles=_STRICT)
def popo_input_is_there_when_needed(check: Check) -> str | None:
    """poposkInput is there when the template has no subject."""
    popo = _signature_popo(check)
    if popo is None or popo.poposk_input is not None or check.request.subject is not None:
        return None
    return "no poposkInput, but the template has no subject"


@_rule(Stage.REQUEST, F.BAD_POP, "RFC 4211, 4.1", bodies=CRMF)
def popo_input_fits(check: Check) -> str | None:
    """poposkInput has the key of the template, and the sender of the message or a MAC of the key under its secret."""
    popo = _signature_popo(check)
    if popo is None or popo.poposk_input is None:
        return None
    if der(popo.poposk_input.public_key) != check.request.public_key:
        return "poposkInput has another key than the template"
    mac = popo.poposk_input.auth_info.value
    if isinstance(mac, PKMACValue):
        try:
            verify_public_key_mac(mac, check.request.public_key or b"", check.secret.value if check.secret else b"")
        except ProtectionError:
            return "publicKeyMAC does not verify"
        return None if check.secret is not None else "publicKeyMAC, but no shared secret"
    sender = popo.poposk_input.sender
    if sender is None or not same_name(sender, check.message.sender or b""):
        return "poposkInput has another sender than the message"
    return None


@_rule(Stage.REQUEST, F.BAD_POP, "RFC 4211, 4.1; RFC 2986, 4.2", bodies=REQUESTS)
def possession_verifies(check: Check) -> str | None:
    """The proof of possession verifies, over the bytes as they were sent."""
    request = check.request
    if request.signature is not None:
        algorithm, signature = request.signature
        signed = request.signed
    else:
        popo = _signature_popo(check)
        if popo is None:
            return None
        algorithm = der(popo.algorithm_identifier)
        signed = popo.signed_input or request.signed
        try:
            signature = bits(popo.signature)
        except ValueError:
            return "the proof of possession does not decode"
    try:
        verify_signature(request.public_key or b"", algorithm, signed, signature, keep=False)
    except ProtectionError:
        return "the proof of possession does not verify"
    return None


def _signature_popo(check: Check) -> POPOSigningKey | None:
    message = check.request.message
    if message is None or message.popo is None:
        return None
    value = message.popo.value
    return value if isinstance(value, POPOSigningKey) else None


# -- ccr -----------------------------------------------------------------------------------------------------------


@_rule(Stage.HEADER, F.WRONG_INTEGRITY, "RFC 9810, D.6", bodies=_CROSS)
def cross_request_is_signed(check: Check) -> str | None:
    """A ccr is signed."""
    return "a cross-certification request must be signed" if check.message.mac is not None else None


@_rule(Stage.REQUESTER, F.NOT_AUTHORIZED, "RFC 9810, 6.6", bodies=_CROSS)
def cross_requester_is_a_ca(check: Check) -> str | None:
    """A ccr is signed by a CA."""
    certificate = check.verified.certificate
    return None if certificate is not None and _is_ca(certificate) else "cross-certification is for CAs"


@_rule(Stage.REQUEST, F.BAD_REQUEST, "RFC 9810, D.6", bodies=_CROSS)
def cross_request_is_one(check: Check) -> str | None:
    """A ccr has exactly one CertReqMsg, whatever the profile allows others."""
    return "more than one request for cross-certification" if check.wishes > 1 else None


@_rule(Stage.REQUEST, F.BAD_CERT_TEMPLATE, "RFC 9810, D.6", bodies=_CROSS)
def cross_template_is_complete(check: Check) -> str | None:
    """The template of a ccr has version v3, signingAlg, issuer, validity, subject, and no serialNumber."""
    assert check.request.message is not None
    template = check.request.message.cert_req.cert_template
    validity = template.validity
    if validity is None or validity.not_before is None or validity.not_after is None:
        return "a cross-certification request without validity"
    if template.version != 2 or template.signing_alg is None:
        return "a cross-certification request without version v3 or signingAlg"
    if template.serial_number is not None:
        return "serialNumber is not for the requester"
    missing = template.issuer_der is None or template.subject_der is None
    return "a cross-certification request without issuer or subject" if missing else None


@_rule(Stage.REQUEST, F.BAD_CERT_TEMPLATE, "RFC 9810, 6.6", bodies=_CROSS)
def cross_subject_is_the_requesters(check: Check) -> str | None:
    """The subject of a ccr's template is the CA that signed it."""
    certificate, subject = check.verified.certificate, check.request.subject
    if certificate is None or subject is None or same_name(subject, facts(certificate).subject):
        return None
    return "the subject is not the CA that asks"


@_rule(Stage.REQUEST, F.BAD_POP, "RFC 9810, D.6", bodies=_CROSS)
def cross_possession_is_proven_by_signature(check: Check) -> str | None:
    """The proof of possession of a ccr is a signature, also when an RA asks."""
    return "no proof of possession by signature" if _signature_popo(check) is None else None


def _is_ca(certificate: bytes) -> bool:
    """Whether this certificate (DER) is a CA's (RFC 5280, 4.2.1.9 and 4.2.1.3)."""
    constraints = decode(Certificate, certificate).tbs.extension("2.5.29.19")
    usage = facts(certificate).key_usage
    return (
        constraints is not None
        and b"\x01\x01\xff" in [constraints[a:b] for a, b in elements(constraints)]
        and (usage is None or bool(usage & 0x0400))
    )


# -- certConf ------------------------------------------------------------------------------------------------------

_CONF = frozenset((B.CERT_CONF,))


@_rule(Stage.CONFIRM, F.CERT_CONFIRMED, "RFC 9810, 5.3.18", bodies=_CONF)
def nothing_is_confirmed_yet(check: Check) -> str | None:
    """The certificates of the transaction are not confirmed already, explicitly or implicitly."""
    status, record = check.status, check.record
    settled = {CertificateState.VALID, CertificateState.UPDATING, CertificateState.UPDATED}
    again = status is not None and record is not None and record.state in settled
    return "confirmed already" if again or check.begun.state is TransactionState.CONFIRMED else None


@_rule(Stage.CONFIRM, F.BAD_REQUEST, "RFC 9810, 5.3.18", bodies=_CONF)
def confirmation_is_expected(check: Check) -> str | None:
    """The transaction has certificates that wait for their confirmation."""
    begun = check.begun
    expected = begun.state is TransactionState.CONFIRMING or (
        begun.state is TransactionState.WAITING and begun.body_type in REQUESTS and check.unconfirmed
    )
    return None if expected else "no certificate is to be confirmed"


@_rule(Stage.CONFIRM, F.BAD_CERT_ID, "RFC 9810, 5.3.18", bodies=_CONF)
def confirmed_ids_are_known(check: Check) -> str | None:
    """Each certReqId is one of the transaction's."""
    known = {request_id for request_id, _ in check.begun.certificates}
    return None if {each.cert_req_id for each in check.statuses} <= known else "an unknown certReqId"


@_rule(Stage.CONFIRM, F.BAD_REQUEST, "RFC 9810, 5.3.18", bodies=_CONF)
def each_certificate_has_one_status(check: Check) -> str | None:
    """No certificate has two statuses; one without any is rejected by that."""
    ids = [each.cert_req_id for each in check.statuses]
    return "several statuses for one certificate" if len(set(ids)) != len(ids) else None


@_rule(Stage.CONFIRM, F.BAD_REQUEST, "RFC 9810, 5.3.18", bodies=_CONF)
def status_makes_sense(check: Check) -> str | None:
    """A status is accepted, without failInfo, or rejection."""
    for each in check.statuses:
        info = each.status_info
        if info is None:
            continue
        if info.status not in {PKIStatus.ACCEPTED, PKIStatus.REJECTION}:
            return "a status that is neither accepted nor rejection"
        if info.status == PKIStatus.ACCEPTED and info.fail_info is not None:
            return "accepted together with a failInfo"
    return None


@_rule(Stage.CONFIRM, F.CERT_REVOKED, "RFC 9810, 5.3.18", bodies=_CONF)
def confirmed_certificate_is_in_force(check: Check) -> str | None:
    """A certificate that was revoked before it was confirmed stays so."""
    status, record = check.status, check.record
    if status is None or record is None or record.state is not CertificateState.REVOKED:
        return None
    accepted = status.status_info is None or status.status_info.status == PKIStatus.ACCEPTED
    return "the certificate was revoked" if accepted else None


@_rule(Stage.CONFIRM, F.BAD_REQUEST, "RFC 9810, 5.3.18", bodies=_CONF)
def hash_alg_needs_version_3(check: Check) -> str | None:
    """hashAlg needs pvno 3."""
    used = any(each.hash_alg is not None for each in check.statuses)
    return "hashAlg needs pvno 3" if used and check.message.header.pvno < 3 else None


@_rule(Stage.CONFIRM, F.BAD_ALG, "RFC 9810, 5.3.18", bodies=_CONF)
def hash_alg_is_known(check: Check) -> str | None:
    """hashAlg is a hash that is known here."""
    unknown = any(each.hash_alg is not None and each.hash_alg.oid not in _HASHES for each in check.statuses)
    return "hashAlg is not known here" if unknown else None


@_rule(Stage.CONFIRM, F.BAD_CERT_ID, "RFC 9810, 5.3.18", bodies=_CONF)
def hash_is_the_certificates(check: Check) -> str | None:
    """certHash is the hash of the certificate by its signature algorithm, or by hashAlg."""
    status, record = check.status, check.record
    if status is None or record is None:
        return None
    expected = confirmation_hashes(record.certificate, status.hash_alg.oid if status.hash_alg else None)
    return None if status.cert_hash in expected else "certHash is not the certificate's"


_HASHES = {
    "2.16.840.1.101.3.4.2.1": "SHA256",
    "2.16.840.1.101.3.4.2.2": "SHA384",
    "2.16.840.1.101.3.4.2.3": "SHA512",
    "2.16.840.1.101.3.4.2.4": "SHA224",
    "2.16.840.1.101.3.4.2.8": "SHA3-256",
    "2.16.840.1.101.3.4.2.9": "SHA3-384",
    "2.16.840.1.101.3.4.2.10": "SHA3-512",
    "2.16.840.1.101.3.4.2.11": "SHAKE128",
    "2.16.840.1.101.3.4.2.12": "SHAKE256",
}


def confirmation_hashes(certificate: bytes, hash_alg: str | None) -> tuple[bytes, ...]:
    """What certHash may be: by ``hash_alg`` (dotted), else by the certificate's own signature algorithm.

    An Ed448 signature tells SHAKE256 (RFC 9481, 3.3); OpenSSL and older peers take SHA-512. Empty when no hash fits.
    """
    if hash_alg is not None:
        names = [_HASHES[hash_alg]] if hash_alg in _HASHES else []
    else:
        # The element after TBSCertificate, without decoding the rest.
        _, inside, end = read_header(certificate, 0, len(certificate))
        _, _, start = read_header(certificate, inside, end)
        _, _, stop = read_header(certificate, start, end)
        method = signature_algorithm(certificate[start:stop])
        names = [method.digest] if method.digest else ["SHA512", "SHAKE256"]
    return tuple([_digest(name, certificate) for name in names])


def _digest(name: str, data: bytes) -> bytes:
    if name.startswith("SHAKE"):
        return hashlib.shake_128(data).digest(32) if name == "SHAKE128" else hashlib.shake_256(data).digest(64)
    digest: bytes = getattr(hashlib, name.lower().replace("-", "_"))(data).digest()
    return digest


def short_hash(nonce: bytes) -> bytes:
    """16 bytes by which a nonce is remembered: itself when it has as many, as nearly every one has."""
    return nonce if len(nonce) == 16 else hashlib.sha256(nonce).digest()[:16]


# -- pollReq -------------------------------------------------------------------------------------------------------

_PROVE = frozenset((B.POPDECR,))


@_rule(Stage.PROVE, F.BAD_REQUEST, "RFC 9810, 5.2.8.3.3", bodies=_PROVE)
def challenge_is_open(check: Check) -> str | None:
    """A popdecr answers a popdecc."""
    return None if check.begun.state is TransactionState.CHALLENGED else "no challenge is open"


_POLL = frozenset((B.POLL_REQ,))


@_rule(Stage.POLL, F.BAD_REQUEST, "RFC 9810, 5.3.22", bodies=_POLL)
def transaction_is_waiting(check: Check) -> str | None:
    """A pollReq is for a transaction that waits."""
    return None if check.begun.state is TransactionState.WAITING else "nothing is waited for"


# -- rr ------------------------------------------------------------------------------------------------------------

_RR = frozenset((B.RR,))


@_rule(Stage.REVOKE, F.BAD_REQUEST, "RFC 9483, 4.2", bodies=_RR)
def revocation_is_one(check: Check) -> str | None:
    """An rr has exactly one RevDetails."""
    return None if check.revocations == 1 else "not exactly one RevDetails"


@_rule(Stage.REVOKE, F.ADD_INFO_NOT_AVAILABLE, "RFC 9483, 4.2", bodies=_RR)
def issuer_and_serial_are_there(check: Check) -> str | None:
    """certDetails has issuer and serialNumber."""
    template = check.details.cert_details
    return "no issuer or serialNumber" if template.issuer is None or template.serial_number is None else None


@_rule(Stage.REVOKE, F.BAD_REQUEST, "RFC 9483, 4.2", bodies=_RR)
def reason_is_there_once(check: Check) -> str | None:
    """There is at most one CRLReason."""
    count = sum(each.oid == _CRL_REASON for each in check.details.crl_entry_details or ())
    return "more than one CRLReason" if count > 1 else None


@_rule(Stage.REVOKE, F.BAD_REQUEST, "RFC 9483, 4.2", bodies=_RR, profiles=_STRICT)
def reason_is_there(check: Check) -> str | None:
    """There is a CRLReason, unspecified if need be."""
    told = any(each.oid == _CRL_REASON for each in check.details.crl_entry_details or ())
    return None if told else "no CRLReason"


@_rule(Stage.REVOKE, F.BAD_DATA_FORMAT, "RFC 5280, 5.3.1", bodies=_RR)
def reason_is_known(check: Check) -> str | None:
    """CRLReason is one of RFC 5280's."""
    for each in check.details.crl_entry_details or ():
        if each.oid == _CRL_REASON and reason_of(each.extn_value) is None:
            return "an unknown CRLReason"
    return None


def reason_of(value: bytes) -> RevocationReason | None:
    """The CRLReason in the DER of an ENUMERATED; None for any other."""
    if len(value) != 3 or value[:2] != b"\x0a\x01":
        return None
    try:
        return RevocationReason(value[2])
    except ValueError:
        return None


def wanted_reason(details: RevDetails) -> RevocationReason:
    """What an rr asks for; unspecified when it does not say."""
    for each in details.crl_entry_details or ():
        if each.oid == _CRL_REASON:
            return reason_of(each.extn_value) or RevocationReason.UNSPECIFIED
    return RevocationReason.UNSPECIFIED


@_rule(Stage.REVOKE, F.BAD_CERT_ID, "RFC 9483, 4.2", bodies=_RR)
def revoked_certificate_is_ours(check: Check) -> str | None:
    """The certificate to be revoked was issued here."""
    return None if check.record is not None else "no such certificate"


@_rule(Stage.REVOKE, F.BAD_CERT_ID, "RFC 9483, 4.2", bodies=_RR)
def other_details_agree(check: Check) -> str | None:
    """Other fields of certDetails do not contradict the certificate."""
    template, record = check.details.cert_details, check.record
    if record is None:
        return None
    about = facts(record.certificate)
    subject, key = template.subject_der, template.public_key_der
    if (subject is not None and not same_name(subject, about.subject)) or (key is not None and key != about.spki):
        return "certDetails contradict the certificate"
    return None


@_rule(Stage.REVOKE, F.NOT_AUTHORIZED, "RFC 9483, 4.2", bodies=_RR)
def revoker_is_the_holder_or_an_ra(check: Check) -> str | None:
    """The signer is the certificate itself or an authorised RA; where a MAC may ask, whom it was issued to."""
    record = check.record
    if check.ra or record is None or record.certificate == check.verified.certificate:
        return None
    if check.verified.kind is ProtectionKind.MAC and record.identity == check.verified.identity:
        return None
    return "only the holder or a registration authority may revoke a certificate"


@_rule(Stage.REVOKE, F.CERT_REVOKED, "RFC 9483, 4.2", bodies=_RR)
def certificate_is_not_revoked(check: Check) -> str | None:
    """The certificate is not revoked already, unless it is to be released, or was on hold and is to be revoked."""
    if check.record is None or check.record.state is not CertificateState.REVOKED:
        return None
    reason = wanted_reason(check.details)
    if reason is RevocationReason.REMOVE_FROM_CRL:
        return None
    if check.revoked is not None and check.revoked.reason is RevocationReason.CERTIFICATE_HOLD:
        return "on hold already" if reason is RevocationReason.CERTIFICATE_HOLD else None
    return "revoked already"


@_rule(Stage.REVOKE, F.BAD_CERT_ID, "RFC 9483, 4.2", bodies=_RR)
def valid_certificate_is_not_revived(check: Check) -> str | None:
    """removeFromCRL is for a revoked certificate."""
    if wanted_reason(check.details) is not RevocationReason.REMOVE_FROM_CRL:
        return None
    revoked = check.record is not None and check.record.state is CertificateState.REVOKED
    return None if revoked else "the certificate is not on hold"


@_rule(Stage.REVOKE, F.CERT_REVOKED, "RFC 5280, 5.3.1", bodies=_RR)
def only_held_certificates_are_revived(check: Check) -> str | None:
    """removeFromCRL is for a certificate on hold; what is revoked for any other reason is so for good."""
    if wanted_reason(check.details) is not RevocationReason.REMOVE_FROM_CRL or check.revoked is None:
        return None
    return None if check.revoked.reason is RevocationReason.CERTIFICATE_HOLD else "revoked for good"


# -- genm ----------------------------------------------------------------------------------------------------------

_GENM = frozenset((B.GENM,))
_WITHOUT_VALUE = frozenset(
    (
        oids.IT_CA_PROT_ENC_CERT,
        oids.IT_SIGN_KEY_PAIR_TYPES,
        oids.IT_ENC_KEY_PAIR_TYPES,
        oids.IT_PREFERRED_SYMM_ALG,
        oids.IT_CURRENT_CRL,
        oids.IT_CA_CERTS,
        oids.IT_CERT_REQ_TEMPLATE,
    )
)


@_rule(Stage.INFO, F.BAD_REQUEST, "RFC 9483, 4.3", bodies=_GENM, profiles=_NOT_LENIENT)
def info_types_are_not_too_many(check: Check) -> str | None:
    """A genm has one infoType at most, or as many as the profile allows."""
    return None if check.wishes <= check.profile.max_infos else "more than one infoType"


@_rule(Stage.INFO, F.BAD_REQUEST, "RFC 9483, 4.3", bodies=_GENM, profiles=_STRICT)
def info_types_are_named(check: Check) -> str | None:
    """A genm names what it asks for; an empty one asks for all there is (RFC 9810, D.5)."""
    return None if check.wishes else "no infoType"


@_rule(Stage.INFO, F.BAD_REQUEST, "RFC 9811, 3.4; RFC 9483, 6.1", bodies=_GENM)
def info_type_is_for_the_paths_operation(check: Check) -> str | None:
    """The infoType is one that the operation in the path is for."""
    wanted = _OPERATION_INFOS.get(check.peer.operation or "")
    if wanted is None or all(item.oid in wanted for item in check.message.content()):
        return None
    return f"the infoType is not for the operation {check.peer.operation}"


@_rule(Stage.INFO, F.BAD_REQUEST, "RFC 9483, 4.3", bodies=_GENM, profiles=_NOT_LENIENT)
def info_values_are_where_they_belong(check: Check) -> str | None:
    """An infoType that asks has no value where none belongs."""
    for item in check.message.content():
        if item.oid in _WITHOUT_VALUE and item.value_der not in {None, _NULL}:
            return f"{oids.name_of(item.oid)} has a value"
    return None


_WITH_VALUE = frozenset((oids.IT_CRL_STATUS_LIST, oids.IT_SUPP_LANG_TAGS, oids.IT_KEY_PAIR_PARAM_REQ))


@_rule(Stage.INFO, F.BAD_DATA_FORMAT, "RFC 9810, 5.3.19", bodies=_GENM)
def info_values_are_there(check: Check) -> str | None:
    """An infoType that asks with a value has one."""
    for item in check.message.content():
        if item.oid in _WITH_VALUE and item.value_der in {None, _NULL}:
            return f"{oids.name_of(item.oid)} has no value"
    return None


@_rule(Stage.INFO, F.BAD_DATA_FORMAT, "RFC 9810, 5.3.19", bodies=_GENM)
def info_values_decode(check: Check) -> str | None:
    """The value of an infoType is of its type."""
    for item in check.message.content():
        if item.oid in _WITHOUT_VALUE or item.value_der == _NULL:
            continue
        try:
            decode_info(item, max_items=check.message.limits.max_infos)
        except BadMessage as error:
            return error.text
    return None


# -- nested --------------------------------------------------------------------------------------------------------

_NESTED = frozenset((B.NESTED,))


@_rule(Stage.HEADER, F.WRONG_INTEGRITY, "RFC 9483, 5.2.2", bodies=_NESTED)
def nested_is_signed(check: Check) -> str | None:
    """A nested message is signed."""
    return "a nested message must be signed" if check.message.mac is not None else None


@_rule(Stage.REQUESTER, F.NOT_AUTHORIZED, "RFC 9483, 5.2.2", bodies=_NESTED)
def nested_is_signed_by_an_ra(check: Check) -> str | None:
    """The signer of a nested message is an authorised RA."""
    return None if check.ra else "nested messages are for registration authorities"


# -- announcements -------------------------------------------------------------------------------------------------


@_rule(Stage.HEADER, F.WRONG_INTEGRITY, "RFC 9810, 5.1.3.3", bodies=ANNOUNCEMENTS)
def announcement_is_signed(check: Check) -> str | None:
    """An announcement is signed."""
    return "an announcement must be signed" if check.message.mac is not None else None


@_rule(Stage.REQUESTER, F.NOT_AUTHORIZED, "RFC 9810, 4.5", bodies=ANNOUNCEMENTS)
def announcement_is_by_a_ca(check: Check) -> str | None:
    """An announcement is signed by a CA, by a holder of id-kp-cmcCA, or by a listed registration authority."""
    certificate = check.verified.certificate
    if certificate is not None and (
        check.listed or _is_ca(certificate) or _EKU_CMC_CA in facts(certificate).extended_key_usage
    ):
        return None
    return "announcements are for certification authorities"


def adds_protection(check: Check) -> bool:
    """The nested message adds protection to its one inner message, and is no batch."""
    return len(check.inner) == 1 and check.inner[0].transaction_id == check.message.transaction_id


@_rule(Stage.NESTED, F.BAD_REQUEST, "RFC 9483, 5.2.2.1", bodies=_NESTED, profiles=())
def one_message_is_no_batch(check: Check) -> str | None:
    """Around one message, the transactionID is that of this message. Off, it is a batch of one: PKIMessages has SIZE (1..MAX)."""
    lonely = len(check.inner) == 1 and not adds_protection(check)
    return "transactionID is not that of the one inner message" if lonely else None


@_rule(Stage.NESTED, F.BAD_SENDER_NONCE, "RFC 9483, 5.2.2.1", bodies=_NESTED)
def added_protection_repeats_the_nonce(check: Check) -> str | None:
    """Around one message with the same transactionID, senderNonce is the same too."""
    if not adds_protection(check) or check.inner[0].sender_nonce == check.message.sender_nonce:
        return None
    return "senderNonce is not that of the inner message"


@_rule(Stage.NESTED, F.TRANSACTION_ID_IN_USE, "RFC 9483, 5.2.2.2", bodies=_NESTED)
def batched_transaction_ids_differ(check: Check) -> str | None:
    """A batch and the messages in it have different transactionIDs."""
    ids = [each.transaction_id for each in (check.message, *check.inner)]
    if adds_protection(check) or len(set(ids)) == len(ids):
        return None
    return "the same transactionID twice in a batch"


@_rule(Stage.NESTED, F.BAD_SENDER_NONCE, "RFC 9483, 5.2.2.2", bodies=_NESTED)
def batched_nonces_differ(check: Check) -> str | None:
    """A batch and the messages in it have different senderNonces."""
    nonces = [each.sender_nonce for each in (check.message, *check.inner)]
    if adds_protection(check) or len(set(nonces)) == len(nonces):
        return None
    return "the same senderNonce twice in a batch"


# -- key recovery --------------------------------------------------------------------------------------------------


def recovery_recipient(check: Check) -> Recipient | PasswordRecipient | None:
    """For whom recovered keys are sealed; None: the credential cannot receive any."""
    if check.escrow is None:
        return None
    return check.escrow.recipient(check.verified, check.secret.value if check.secret is not None else None)


@_rule(Stage.RECOVER, F.BAD_REQUEST, "RFC 9810, 5.3.7", bodies=_RECOVERY)
def recovery_is_one_request(check: Check) -> str | None:
    """A krr has one CertReqMsg: krp has one status."""
    return None if check.wishes == 1 else "a krr is one request"


@_rule(Stage.RECOVER, F.BAD_REQUEST, "RFC 9810, 5.3.8 and 7", bodies=_RECOVERY)
def recovery_needs_version_3(check: Check) -> str | None:
    """Who asks for archived keys says pvno 3, since they come in EnvelopedData."""
    return "recovered keys need pvno 3" if check.message.header.pvno < 3 else None


@_rule(Stage.RECOVER, F.NOT_AUTHORIZED, "RFC 9810, 5.2.2", bodies=_RECOVERY)
def recovered_key_can_be_received(check: Check) -> str | None:
    """Who asks has a secret, or a certificate whose keyUsage allows keyEncipherment or keyAgreement."""
    return "this credential cannot receive a private key" if recovery_recipient(check) is None else None


@_rule(Stage.RECOVER, F.BAD_CERT_TEMPLATE, "RFC 9810, 5.3.7", bodies=_RECOVERY)
def recovery_asks_for_no_certificate(check: Check) -> str | None:
    """The template says which keys are sought, and no proof asks for a new signature certificate, which is not issued."""
    there = check.recovery is not None and check.recovery.popo is not None
    return "no new signature certificate comes with recovered keys; ask for it by ir or cr" if there else None


@_rule(Stage.RECOVER, F.BAD_CERT_TEMPLATE, "RFC 9810, 5.3.7", bodies=_RECOVERY)
def recovery_for_others_names_the_certificate(check: Check) -> str | None:
    """A registration authority names the certificate by issuer and serialNumber."""
    if not check.ra or check.recovery is None:
        return None
    template = check.recovery.cert_req.cert_template
    named = template.issuer is not None and template.serial_number is not None
    return None if named else "issuer and serialNumber are needed to recover the key of somebody else"


# -- profiles ------------------------------------------------------------------------------------------------------


class VerifySwitches(TypedDict):
    """The rules at ``Stage.VERIFY``, as ``verify`` takes them."""

    check_key_usage: bool
    require_sender_kid: bool
    first_certificate: bool
    mac_sender: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationProfile:
    """Which rules are checked, and the numbers that some of them take.

    Attributes:
        name: for people and configuration.
        rules: names of the rules that are on.
        message_time_seconds: how far messageTime may be from our time, either side.
        max_requests: CertReqMsg in one message.
        max_infos: infoTypes in one genm.
        max_open_transactions, max_open_per_credential: that wait or are to be confirmed.
        max_messages_per_transaction: of the peer.
        switches: what ``verify`` is told.
    """

    name: str
    rules: frozenset[str]
    message_time_seconds: float = 300.0
    max_requests: int = 1
    max_infos: int = 1
    max_open_transactions: int = 10_000
    max_open_per_credential: int = 1_000
    max_messages_per_transaction: int = 1_000
    switches: VerifySwitches = field(init=False, repr=False, compare=False)
    _table: dict[tuple[Stage, BodyType, bool], tuple[tuple[Checker, FailureInfo], ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        unknown = self.rules - RULES.keys()
        if unknown:
            raise ValueError(f"no such rule: {', '.join(sorted(unknown))}")
        table: dict[tuple[Stage, BodyType, bool], tuple[tuple[Checker, FailureInfo], ...]] = {}
        for stage, body in product(Stage, _EVERY):
            rules = [
                rule
                for rule in RULES.values()
                if rule.stage is stage and body in rule.bodies and rule.name in self.rules and rule.check
            ]
            for bare in (False, True):
                table[stage, body, bare] = tuple(
                    [(rule.check, rule.failure) for rule in rules if rule.check and not (bare and rule.of_general_info)]
                )
        object.__setattr__(self, "_table", table)
        switches = VerifySwitches(
            check_key_usage="key_usage_allows_signing" in self.rules,
            require_sender_kid="sender_kid_is_there" in self.rules,
            first_certificate="signer_is_first_of_extra_certs" in self.rules,
            mac_sender="mac_sender_is_the_reference" in self.rules,
        )
        object.__setattr__(self, "switches", switches)

    def __contains__(self, rule: str) -> bool:
        """The rule of this name is on."""
        return rule in self.rules

    def but(self, *, on: Iterable[str] = (), off: Iterable[str] = (), name: str | None = None) -> ValidationProfile:
        """The same with some rules switched on or off by name.

        Raises:
            ValueError: no such rule.
        """
        off = frozenset(off)
        if unknown := off - RULES.keys():
            raise ValueError(f"no such rule: {', '.join(sorted(unknown))}")
        return replace(self, rules=(self.rules | frozenset(on)) - off, name=name or self.name)

    def check(self, stage: Stage, check: Check) -> None:
        """Return when no rule of this stage is broken.

        Raises:
            BadMessage: with the failInfo and the words of the first that is.
        """
        message = check.message
        for look, failure in self._table[stage, message.body_type, message.header.general_info is None]:
            text = look(check)
            if text is not None:
                raise BadMessage(failure, text)


def _profile(name: str) -> ValidationProfile:
    return ValidationProfile(
        name=name, rules=frozenset([rule.name for rule in RULES.values() if name in rule.profiles])
    )


RFC9810 = _profile("rfc9810")
STRICT = _profile("strict")
LENIENT = _profile("lenient")
PROFILES = {profile.name: profile for profile in (RFC9810, STRICT, LENIENT)}


def profile_named(name: str, *, on: Iterable[str] = (), off: Iterable[str] = ()) -> ValidationProfile:
    """The validation profile ``rfc9810``, ``strict`` or ``lenient``, with rules switched by name.

    Raises:
        ValueError: no such profile or rule.
    """
    if name not in PROFILES:
        raise ValueError(f"no such validation profile: {name} (there are {', '.join(PROFILES)})")
    return PROFILES[name].but(on=on, off=off)


def is_ra(verified: Verified, listed: frozenset[bytes], *, delegated: bool) -> bool:
    """Whether the signer is a registration authority: its certificate has id-kp-cmcRA, or SHA-256 of it is listed.

    Args:
        delegated: the certificate was issued by the CA that the RA works for, or by one that may name RAs for it; else
            id-kp-cmcRA says nothing. CMP has no extended key usage for RAs besides that of CMC.

    Source: RFC 9483, 5.2; RFC 9810, 4.5.
    """
    if verified.certificate is None:
        return False
    about = facts(verified.certificate)
    return about.fingerprint in listed or (delegated and _EKU_CMC_RA in about.extended_key_usage)


def signer_key(verified: Verified) -> bytes | None:
    """The store's key of the certificate that signed; None for a MAC."""
    if verified.certificate is None:
        return None
    about = facts(verified.certificate)
    return certificate_key(about.issuer, about.serial_number)
