"""``Pending``: a transaction between two messages, which can be written down and taken up again elsewhere.

A server may answer any request with "waiting", for days when a person has to decide. What must be remembered of the
transaction until then is little: its transactionID, the nonces that the next answer is checked against, what is polled for,
and what the result has to fit. None of it is secret: no private key, no shared secret, no registration token, and no request.
Whoever takes it up again must have the credential; what an answer is believed for is decided by the ``Context``, never by
what was saved. A saved Pending that somebody has changed can make a transaction fail, and nothing else.

The journal writes the same down before each message (``journal.py``).

Source: RFC 9810, 5.3.22; RFC 9483, 4.4.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from opensslcmp.asn1 import initializer
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import BodyType

__all__ = ["Pending", "StillWaiting"]

_FORMAT = "opensslcmp pending"
_VERSION = 1
_MAX_BYTES = 1 << 20
_KINDS = frozenset((BodyType.IR, BodyType.CR, BodyType.P10CR, BodyType.KUR, BodyType.CCR, BodyType.RR, BodyType.GENM))
_SENT = frozenset((*_KINDS, BodyType.CERT_CONF, BodyType.POLL_REQ, BodyType.POPDECR))
_POPO = frozenset(("signature", "raVerified", "keyEnc", "none", "indirect", "challenge"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """A transaction that the server has not finished.

    Attributes:
        kind: body type of its request: IR, CR, P10CR, KUR, CCR, RR or GENM.
        transaction_id: transactionID.
        server: URL that it began with, without user and password, for people.
        identity: SHA-256 of who we are to the server; the context that resumes it must be the same party.
        deadline: seconds since 1970 after which waiting makes no sense.
        check_after_seconds: when the server wants to be asked again, clamped to the context's bounds.
        public_key: SubjectPublicKeyInfo that the certificate must be for; None where none is asked for.
        subject, names: what the certificate must hold of a subject and of alternative names (DER); None leaves it open.
        begins: when its validity was wished to begin, in seconds since 1970; None for now.
        popo: how possession of the key was proved.
        implicit_confirm: the request asked to waive the confirmation.
        issuer, serial_number: which certificate is to be revoked; ``issuer`` also whose CRL is wanted.
        question: infoType of a genm that a method of its own asks; None for ``request_info``.
        since: thisUpdate of the CRL held, in seconds since 1970.
        fingerprint: SHA-256 of the certificate that the answer to a genm is checked against.
        label: the caller's own name for it, as the journal knows it.
        asked: body type of the message whose answer is awaited; CERT_CONF when the certificate is here already.
        waiting_for: certReqId to poll for; None when nothing has been heard.
        sent: body type of the last message that was sent.
        nonces: senderNonce of our first and our last message.
        peer_nonce: senderNonce of the last answer.
        signer: certificate (DER) that signed it.
        salt: of our MACs; it stands in every message.
        kem: the KemCiphertextInfo (DER) that our KEM-based MACs are made with, which only our key opens.
        recipient: DER of the Name in our headers.
        answer: the message that brought the certificate, once it is here.
        refusal: why we refused that certificate; None when we did not.
        held: that certificate, in the process that asked; never saved. Elsewhere it must be one that the context holds.
        key: the private key, while this object lives in the process that asked; never saved.
    """

    kind: BodyType
    transaction_id: bytes = b""
    server: str | None = None
    identity: bytes = b""
    deadline: float = 0.0
    check_after_seconds: float = 0.0
    public_key: bytes | None = field(default=None, repr=False)
    subject: bytes | None = field(default=None, repr=False)
    names: bytes | None = field(default=None, repr=False)
    begins: float | None = None
    popo: str = "signature"
    implicit_confirm: bool = False
    issuer: bytes | None = field(default=None, repr=False)
    serial_number: int | None = None
    question: str | None = None
    since: float | None = None
    fingerprint: bytes | None = field(default=None, repr=False)
    label: str | None = None
    asked: BodyType = BodyType.IR
    waiting_for: int | None = None
    sent: BodyType = BodyType.IR
    nonces: tuple[bytes, ...] = field(default=(), repr=False)
    peer_nonce: bytes | None = field(default=None, repr=False)
    signer: bytes | None = field(default=None, repr=False)
    salt: bytes | None = field(default=None, repr=False)
    kem: bytes | None = field(default=None, repr=False)
    recipient: bytes = field(default=b"", repr=False)
    answer: bytes | None = field(default=None, repr=False)
    refusal: str | None = None
    held: bytes | None = field(default=None, repr=False, compare=False)
    key: PrivateKey | None = field(default=None, repr=False, compare=False)
    _session: Any = field(default=None, repr=False, compare=False)

    def save(self) -> bytes:
        """What ``load`` takes: a line of JSON, without anything secret."""
        values: dict[str, Any] = {"format": _FORMAT, "version": _VERSION}
        for name, kind in _FIELDS.items():
            value = getattr(self, name)
            if value is not None:
                values[name] = kind.write(value)
        return json.dumps(values, separators=(",", ":")).encode()

    @classmethod
    def load(cls, saved: bytes) -> Pending:
        """The Pending that ``save`` wrote down.

        Raises:
            ValueError: it is none, or of a version that is not known.
        """
        if len(saved) > _MAX_BYTES:
            raise ValueError(f"not a saved Pending: longer than {_MAX_BYTES} bytes")
        try:
            values = json.loads(bytes(saved).decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise ValueError("not a saved Pending: it is not JSON") from None
        if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
            raise ValueError("not a saved Pending")
        version = values.pop("version", None)
        if type(version) is not int or version != _VERSION:
            raise ValueError(f"a saved Pending of version {version!r:.20}, and only {_VERSION} is known")
        unknown = values.keys() - _FIELDS.keys()
        if unknown:
            raise ValueError(f"a saved Pending with an unknown field {min(unknown)!r:.40}")
        for name in _REQUIRED - values.keys():
            raise ValueError(f"a saved Pending without {name}")
        fields: dict[str, Any] = {}
        for name, value in values.items():
            try:
                fields[name] = _FIELDS[name].read(value)
            except (ValueError, TypeError, binascii.Error, OverflowError):
                raise ValueError(f"a saved Pending whose {name} is not valid") from None
        return cls(**fields)

    @property
    def is_held(self) -> bool:
        """The certificate is here, and nobody has confirmed or refused it yet."""
        return self.answer is not None and self.asked is not BodyType.CERT_CONF

    def check(self) -> Any:
        """Ask the server once: the result, or a Pending as before. On an AsyncSession, awaited.

        Raises:
            ValueError: it was loaded; ``Session.resume`` takes it then.
        """
        return self._bound().resume(self, wait=False)

    def abandon(self) -> Any:
        """Tell the server that nobody waits any more. On an AsyncSession, awaited.

        Raises:
            ValueError: it was loaded; ``Session.abandon`` takes it then.
        """
        return self._bound().abandon(self)

    def bound_to(self, session: Any) -> Pending:
        """The same, for ``check`` and ``abandon``."""
        return dataclasses.replace(self, _session=session)

    def _bound(self) -> Any:
        if self._session is None:
            raise ValueError("a Pending that was loaded belongs to no session: use session.resume and session.abandon")
        return self._session

    def __reduce__(self) -> Any:
        raise TypeError("a Pending is saved by save(), which leaves the private key out")


Pending.__init__ = initializer(Pending)  # type: ignore[method-assign]


class StillWaiting(Exception):
    """How an operation that shall not wait ends inside: ``pending`` is what its caller gets."""

    def __init__(self, pending: Pending) -> None:
        self.pending = pending
        super().__init__("the server has not decided yet")


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a field is written and read; ``read`` raises ``ValueError`` or ``TypeError``."""

    write: Any
    read: Any


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _octets(least: int, most: int) -> _Kind:
    def read(value: Any) -> bytes:
        if not isinstance(value, str):
            raise TypeError
        found = base64.b64decode(value, validate=True)
        if not least <= len(found) <= most:
            raise ValueError
        return found

    return _Kind(_encoded, read)


def _text(most: int, *, url: bool = False) -> _Kind:
    def read(value: Any) -> str:
        if not isinstance(value, str) or len(value) > most or not all(each.isprintable() for each in value):
            raise ValueError
        if url:
            from opensslcmp.transport import SCHEMES

            if urlsplit(value).scheme not in SCHEMES:
                raise ValueError
        return value

    return _Kind(str, read)


def _one_of(choices: frozenset[BodyType]) -> _Kind:
    def read(value: Any) -> BodyType:
        if type(value) is not int:
            raise TypeError
        found = BodyType(value)
        if found not in choices:
            raise ValueError
        return found

    return _Kind(int, read)


def _number(least: int, most: int) -> _Kind:
    def read(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError
        return value

    return _Kind(int, read)


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value < 1e12:
        raise ValueError
    return float(value)


def _read_popo(value: Any) -> str:
    if value not in _POPO:
        raise ValueError
    return str(value)


def _read_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _read_nonces(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= 2:
        raise ValueError
    return tuple(_octets(1, 256).read(each) for each in value)


def _read_serial(value: Any) -> int:
    if not isinstance(value, str) or len(value) > 80:
        raise ValueError
    return int(value, 16)


_FIELDS = {
    "kind": _one_of(_KINDS),
    "transaction_id": _octets(1, 256),
    "server": _text(2000, url=True),
    "identity": _octets(0, 32),
    "deadline": _Kind(float, _seconds),
    "check_after_seconds": _Kind(float, _seconds),
    "public_key": _octets(1, 100_000),
    "subject": _octets(2, 10_000),
    "names": _octets(2, 100_000),
    "begins": _Kind(float, _seconds),
    "popo": _Kind(str, _read_popo),
    "implicit_confirm": _Kind(bool, _read_bool),
    "issuer": _octets(2, 10_000),
    "serial_number": _Kind(lambda value: f"{value:x}", _read_serial),
    "question": _text(100),
    "since": _Kind(float, _seconds),
    "fingerprint": _octets(32, 32),
    "label": _text(1000),
    "asked": _one_of(_SENT - {BodyType.POLL_REQ, BodyType.POPDECR}),
    "waiting_for": _number(-1, (1 << 31) - 1),
    "sent": _one_of(_SENT),
    "nonces": _Kind(lambda value: [_encoded(each) for each in value], _read_nonces),
    "peer_nonce": _octets(1, 256),
    "signer": _octets(1, 100_000),
    "salt": _octets(0, 1000),
    "kem": _octets(1, 10_000),
    "recipient": _octets(2, 10_000),
    "answer": _octets(1, _MAX_BYTES),
    "refusal": _text(2000),
}
_REQUIRED = frozenset(("kind", "transaction_id", "identity", "deadline", "asked", "sent", "nonces", "recipient"))
