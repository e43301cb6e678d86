"""The CA: the server's own ``CA`` and ``Responder`` on a store in memory, and what is done to their answers.

So it speaks all of CMP as the real server does: it issues, updates, revokes, tells what it knows, and refuses what breaks a
rule. What ``misbehave`` adds acts where the authority decides (``_Authority``) or on the bytes that are ready to be sent
(``CA.answer``).
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp import server
from opensslcmp.asn1 import InfoTypeAndValue, Message, PKIHeader, admit
from opensslcmp.client.async_session import AsyncSession
from opensslcmp.client.context import Context, name_from
from opensslcmp.client.session import Session
from opensslcmp.context.certificates import Trust, load_certificate
from opensslcmp.context.cipher import KEY_BYTES, seal, unseal
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import (
    MacProtector,
    Protector,
    SignatureProtector,
    fresh_bytes,
    protect,
    verify,
)
from opensslcmp.credentials import CertificateSource, Credential, SharedSecret, Signer
from opensslcmp.enums import BodyType, RevocationReason
from opensslcmp.errors import BadMessage, TimedOut, TransportError
from opensslcmp.server.generations import self_signed
from opensslcmp.testing.faults import Fault, Reply, Request, Wait

if TYPE_CHECKING:
    from opensslcmp.testing.web import Server

__all__ = ["CA", "Exchange", "Misbehaviour"]

R = TypeVar("R", bound=Request)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A request, and what was sent back.

    Attributes:
        request, answer: as they went over the wire; ``answer`` is None when none was sent.
        asked, answered: what kinds of body they had; None where that is not to be read.
    """

    request: bytes = dataclasses.field(repr=False)
    answer: bytes | None = dataclasses.field(repr=False)
    asked: BodyType | None
    answered: BodyType | None


class Misbehaviour:
    """A fault for as long as it lasts: until ``end()``, the end of a ``with``, or ``times`` messages.

    Attributes:
        fault: what goes wrong.
        seen: how many messages it has been applied to.
    """

    def __init__(self, ca: CA, fault: Fault, on: frozenset[BodyType], times: int | None) -> None:
        self.fault = fault
        self.seen = 0
        self._ca = ca
        self._on = on
        self._times = times

    def applies(self, request: Message | None) -> bool:
        """Whether it applies to this request, which counts as one of its times then."""
        if self._times is not None and self.seen >= self._times:
            return False
        if self._on and (request is None or request.body_type not in self._on):
            return False
        self.seen += 1
        return True

    def end(self) -> None:
        """The CA is right again."""
        self._ca.behave(self)

    def __enter__(self) -> Misbehaviour:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()


class CA:
    """A certification authority in this process. May be used by several threads at once; nothing is left of it afterwards.

    Args:
        subject: of its certificate.
        key: kind of its key.
        days: how long its certificate is good for.
        profiles: what its certificates look like; the first is for who names none.
        rules: which rules requests are checked by: ``rfc9810``, ``strict`` or ``lenient``.
        clock: seconds since 1970, for all that the CA does.
        **options: of ``opensslcmp.server.Responder``, such as ``policy``, ``labels`` and ``implicit_confirm``.

    Attributes:
        exchanges: all messages so far, the first one first.
    """

    def __init__(
        self,
        subject: str | x509.Name = "CN=Test CA",
        *,
        key: str = "ec:P-256",
        days: float = 30.0,
        profiles: Iterable[server.IssuingProfile] = (server.IssuingProfile(),),
        rules: str | server.ValidationProfile = "rfc9810",
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        private = PrivateKey.generate(key)
        self._name = name_from(subject)
        der = self_signed(private, self._name, days)
        self.exchanges: list[Exchange] = []
        self._misbehaviours: list[Misbehaviour] = []
        self._lock = threading.Lock()
        self._sealer = _Sealer()
        self._store = server.MemoryStore()
        self._authority = _Authority(der, private, self._store, self._sealer, profiles=profiles, clock=clock)
        self._signer = SignatureProtector(self._authority.signer)
        self._clock = clock
        self.certificate = x509.load_der_x509_certificate(der)
        self.responder = server.Responder(
            self._authority,
            self._store,
            self._signer,
            **{
                "secrets": self._authority.secrets.find,
                "trust": Trust([der]),
                "profile": server.profile_named(rules) if isinstance(rules, str) else rules,
                "clock": clock,
                **options,
            },
        )

    # -- who may ask, and with what ------------------------------------------------------------------------------

    @property
    def pem(self) -> bytes:
        """Its certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    def secret(self, reference: str = "device", **options: Any) -> SharedSecret:
        """The shared secret under a reference, made when it is first asked for.

        Args:
            **options: of ``opensslcmp.server.CA.add_secret``, such as ``single_use`` and ``subject``; for a new one.
        """
        with self._lock:
            found = self._authority.secrets.find(reference.encode())
            value = self._authority.add_secret(reference, **options) if found is None else found.value
        return SharedSecret(reference, value)

    def issue(self, subject: str = "CN=device", *, generate: str = "ec:P-256", **options: Any) -> Signer:
        """A certificate of this CA with a new key, for who is to sign with it: as a client, or a TLS server.

        No fault applies to it, and it is not among the ``exchanges``.

        Args:
            generate: kind of the key.
            **options: of ``Session.enroll``, such as ``subject_alternative_names`` and ``profile``.
        """
        context = self.context(self.secret("opensslcmp.testing"))
        issued = Session(context, self.responder.handle).enroll(subject, generate=generate, **options)
        return Signer(issued.certificate, issued.key, (self.certificate,))

    def revoke(
        self,
        certificate: CertificateSource,
        reason: RevocationReason = RevocationReason.UNSPECIFIED,
    ) -> None:
        """The CA revokes a certificate of its own accord.

        Raises:
            Rejected: it is not one of its own, or revoked already.
        """
        serial = x509.load_der_x509_certificate(load_certificate(certificate)).serial_number
        self._authority.change_status(serial, reason)

    def crl(self) -> x509.CertificateRevocationList:
        """The CRL of now."""
        return x509.load_der_x509_crl(self._authority.crl())

    # -- clients -------------------------------------------------------------------------------------------------

    def context(self, credential: Credential | None = None, **options: Any) -> Context:
        """A client's ``Context`` that trusts this CA and polls as soon as it may.

        Args:
            credential: by default the secret of ``device``.
            **options: of ``Context``.
        """
        values: dict[str, Any] = {"trusted": self.certificate, "min_poll_seconds": 0.0, **options}
        return Context(credential=credential or self.secret(), **values)

    def session(self, credential: Credential | None = None, **options: Any) -> Session:
        """A ``Session`` with this CA, without a network; arguments are those of ``context``."""
        return Session(self.context(credential, **options), self)

    def async_session(self, credential: Credential | None = None, **options: Any) -> AsyncSession:
        """An ``AsyncSession`` with this CA, without a network; arguments are those of ``context``."""
        return AsyncSession(self.context(credential, **options), _Awaited(self))

    def serve(self, **options: Any) -> Server:
        """This CA over HTTP, at a free port of 127.0.0.1, until it is closed; arguments are those of ``Server``."""
        from opensslcmp.testing.web import Server

        return Server(self, **options)

    # -- misbehaviour --------------------------------------------------------------------------------------------

    def misbehave(
        self, fault: Fault, *, on: BodyType | Iterable[BodyType] = (), times: int | None = None
    ) -> Misbehaviour:
        """From now on, something is wrong.

        Args:
            fault: what; several apply one after the other.
            on: kinds of requests that it applies to; empty: all of them.
            times: to so many requests; None: to all until it is ended.
        """
        kinds = frozenset((on,) if isinstance(on, BodyType) else on)
        made = Misbehaviour(self, fault, kinds, times)
        with self._lock:
            self._misbehaviours.append(made)
        return made

    def behave(self, only: Misbehaviour | None = None) -> None:
        """Nothing is wrong any more, or not this."""
        with self._lock:
            self._misbehaviours[:] = [each for each in self._misbehaviours if only not in {None, each}]

    # -- messages ------------------------------------------------------------------------------------------------

    def answer(self, request: bytes, peer: server.Peer = server.Peer()) -> Reply:  # noqa: B008 -- immutable
        """What is sent back to a request, and how; a transport makes it happen."""
        read = _read(request)
        with self._lock:
            faults = [each.fault for each in self._misbehaviours if each.applies(read)]
        body = b""
        if all(fault.arrives for fault in faults):
            body = self._authority.handle(self.responder, request, peer, faults)
        reply = Reply(body=body, message=_read(body), request=read)
        for fault in faults:
            reply = dataclasses.replace(fault.reply(reply, self), message=None)
            reply = dataclasses.replace(reply, message=_read(reply.body))
        sent = None if reply.lost else reply.body
        self.exchanges.append(
            Exchange(request=request, answer=sent, asked=_kind(read), answered=_kind(reply.message if sent else None))
        )
        return reply

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The answer, as a ``Transport`` gives it.

        Raises:
            TimedOut: it takes longer than ``timeout_seconds``, which have passed.
            TransportError: there is none.
        """
        reply = self.answer(request)
        time.sleep(_pause(reply, timeout_seconds))
        return _outcome(reply, timeout_seconds)

    async def send_async(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """As ``send``, awaited."""
        import anyio

        reply = self.answer(request)
        await anyio.sleep(_pause(reply, timeout_seconds))
        return _outcome(reply, timeout_seconds)

    def protect(
        self, reply: Reply, header: PKIHeader, body_type: BodyType, body_der: bytes, *, forged: bool = False
    ) -> bytes:
        """A message in place of an answer, with the protection of that answer.

        Args:
            forged: by somebody who has the names, and neither key nor secret.

        Raises:
            ValueError: the answer's protection is of a kind that is made for one message only.
        """
        assert reply.message is not None
        return protect(header, body_type, body_der, self._protector(reply, forged), reply.message.extra_certs)

    def _protector(self, reply: Reply, forged: bool) -> Protector:
        assert reply.message is not None
        if reply.message.mac is None:
            return _forger(self._name) if forged else self._signer
        assert reply.request is not None
        asked = verify(reply.request, secrets=lambda name: self.secret(name.decode()), require_sender_kid=False)
        if asked.mac is None or asked.reference is None:
            raise ValueError("this protection cannot be made again")
        secret = SharedSecret(asked.reference, fresh_bytes(20)) if forged else self.secret(asked.reference.decode())
        return MacProtector(secret).like(asked.mac, asked.salt)

    def close(self) -> None:
        """It ends."""
        self._authority.close()

    def __enter__(self) -> CA:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<testing.CA {self.certificate.subject.rfc4514_string()}>"


class _Awaited:
    """The CA as a transport of an event loop."""

    def __init__(self, ca: CA) -> None:
        self.send = ca.send_async


class _Sealer:
    """Seals secrets for as long as the process lasts."""

    def __init__(self) -> None:
        self._key = os.urandom(KEY_BYTES)

    def encrypt(self, reference: bytes, secret: bytes) -> bytes:
        return seal(self._key, secret, reference)

    def decrypt(self, reference: bytes, sealed: bytes) -> bytes:
        return unseal(self._key, sealed, reference)


class _Authority(server.CA):
    """The server's CA, which asks the faults of the message at hand first."""

    _now = threading.local()

    def handle(self, responder: server.Responder, request: bytes, peer: server.Peer, faults: list[Fault]) -> bytes:
        """The Responder's answer, while these faults act."""
        self._now.faults = faults
        try:
            return responder.handle(request, peer)
        finally:
            self._now.faults = []

    def _decide(self, request: R) -> R | server.Pending:
        if request.pending is not None and (waits := Wait.of(request.pending)).polls != 0:
            return waits.later()
        for fault in getattr(self._now, "faults", ()):
            decision = fault.decide(request)
            if isinstance(decision, server.Pending):
                return decision
            request = decision or request
        return request

    def issue(self, request: server.CertificateRequest) -> server.Issued | server.Pending:  # type: ignore[override]
        decided = self._decide(request)
        return decided if isinstance(decided, server.Pending) else super().issue(decided)

    def revoke(self, request: server.RevocationRequest) -> server.Pending | None:  # type: ignore[override]
        decided = self._decide(request)
        return decided if isinstance(decided, server.Pending) else super().revoke(decided)

    def info(self, request: server.InfoRequest) -> list[InfoTypeAndValue] | server.Pending:  # type: ignore[override]
        decided = self._decide(request)
        return decided if isinstance(decided, server.Pending) else super().info(decided)


def _forger(name: bytes) -> SignatureProtector:
    """Signs with a certificate that has a CA's name and another key."""
    key = PrivateKey.generate("ec:P-256")
    return SignatureProtector(Signer(self_signed(key, name, 1.0), key))


def _read(message: bytes) -> Message | None:
    try:
        return admit(message)
    except BadMessage:
        return None


def _kind(message: Message | None) -> BodyType | None:
    return None if message is None else message.body_type


def _pause(reply: Reply, timeout_seconds: float | None) -> float:
    return reply.delay_seconds if timeout_seconds is None else min(reply.delay_seconds, timeout_seconds)


def _outcome(reply: Reply, timeout_seconds: float | None) -> bytes:
    """As HTTP would have brought it."""
    if timeout_seconds is not None and reply.delay_seconds > timeout_seconds:
        raise TimedOut("the answer did not arrive in time")
    if reply.lost:
        raise TransportError("the connection ended without an answer")
    if reply.message is None and reply.http_status != 200:
        raise TransportError(
            f"the server answered with HTTP status {reply.http_status}",
            http_status=reply.http_status,
            retry_after_seconds=reply.retry_after_seconds,
        )
    return reply.body
