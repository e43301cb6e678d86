"""Who may ask: ``Authorisation`` made of lists, and ``Policy`` for what lists cannot say.

The Responder asks its own policy and then that of the label in the path, after the protection of a message was verified and
before anything is done. ``LabelPolicy`` is what a label selects: rules, issuing profiles, and who may ask there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from opensslcmp.context.certificates import facts
from opensslcmp.context.protection import ProtectionKind, Verified
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import ProtectionError, Rejected
from opensslcmp.server.names import NamePattern, matches_any
from opensslcmp.server.peer import Peer
from opensslcmp.server.rules import ValidationProfile

__all__ = ["AllOf", "Authorisation", "LabelPolicy", "Policy", "Question", "ask"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Who asks for what, and how the message came.

    Attributes:
        requester: the verified credential.
        body_type: of the message that began the transaction: a certConf and a pollReq ask for what the request asked for.
        peer: the transport's: address, label, operation, TLS certificate.
        ra: the requester is an authorised registration authority.
        approved_by: the registration authority that added its protection to the message, or sent it in a batch.
        now: seconds since 1970.
    """

    requester: Verified
    body_type: BodyType
    peer: Peer
    ra: bool = False
    approved_by: Verified | None = None
    now: float = 0.0

    @property
    def reference(self) -> str | None:
        """The reference of the shared secret; None for a signature, and for one that is no text."""
        if self.requester.kind is not ProtectionKind.MAC or self.requester.reference is None:
            return None
        try:
            return self.requester.reference.decode()
        except UnicodeDecodeError:
            return None

    @property
    def subject(self) -> bytes | None:
        """DER of the signer's subject; None for a MAC."""
        return _subject(self.requester.certificate)

    @property
    def tls_subject(self) -> bytes | None:
        """DER of the subject of the TLS client's certificate; None when there is none."""
        return _subject(self.peer.tls_certificate)


def _subject(certificate: bytes | None) -> bytes | None:
    if certificate is None:
        return None
    try:
        return facts(certificate).subject
    except ProtectionError:
        return None


class Policy(Protocol):
    """Says who may ask. May be called from several threads at once; a coroutine function under ``handle_async``."""

    def may_ask(self, question: Question) -> Awaitable[None] | None:
        """Return when this requester may ask for this; it is asked once for each message.

        Raises:
            Rejected: it may not; failInfo and text are told to the requester. Any other exception is logged, and the
                requester is told systemFailure.
        """


@dataclass(frozen=True, slots=True)
class AllOf:
    """A ``Policy`` that asks several, one after the other: all must agree."""

    policies: Sequence[Policy]

    def may_ask(self, question: Question) -> None:
        """As ``Policy``."""
        for each in self.policies:
            ask(each, question)


def ask(policy: Policy, question: Question) -> None:
    """As ``policy.may_ask``, awaited where that is to be awaited.

    Raises:
        Rejected: as that.
        TypeError: it is to be awaited, and ``handle`` runs us instead of ``handle_async``.
    """
    answer = policy.may_ask(question)
    if answer is not None:
        from opensslcmp.server.hub import settle

        settle(answer)


_NO = "not authorised to ask here"


@dataclass(frozen=True, kw_only=True, slots=True)
class Authorisation:
    """A ``Policy`` made of lists: who may ask, by credential and by TLS client certificate.

    An empty list says nothing. With ``references`` or ``subjects``, a credential must be in that of its kind.

    Attributes:
        references: of shared secrets that may be used; ``*``, ``?`` and ``[...]`` are as in a shell.
        subjects: of certificates that may sign, such as ``CN=*,O=Example``.
        registration_authorities_only: only registration authorities may ask, or pass on what others ask.
        tls_required: the TLS client has shown a certificate that was verified.
        tls_subjects: of TLS clients' certificates, such as ``CN=gateway-*,O=Example``; implies ``tls_required``.
    """

    references: tuple[str, ...] = ()
    subjects: tuple[NamePattern, ...] = ()
    registration_authorities_only: bool = False
    tls_required: bool = False
    tls_subjects: tuple[NamePattern, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether everybody may ask."""
        return not (
            self.references
            or self.subjects
            or self.registration_authorities_only
            or self.tls_required
            or self.tls_subjects
        )

    def may_ask(self, question: Question) -> None:
        """As ``Policy``.

        Raises:
            Rejected: notAuthorized, always in the same words.
        """
        if (self.tls_required or self.tls_subjects) and question.tls_subject is None:
            raise Rejected(FailureInfo.NOT_AUTHORIZED, _NO)
        if self.tls_subjects and not matches_any(self.tls_subjects, question.tls_subject):
            raise Rejected(FailureInfo.NOT_AUTHORIZED, _NO)
        if self.registration_authorities_only and not question.ra and question.approved_by is None:
            raise Rejected(FailureInfo.NOT_AUTHORIZED, _NO)
        if not self.references and not self.subjects:
            return
        reference = question.reference
        if reference is not None and any(fnmatchcase(reference, each) for each in self.references):
            return
        if not matches_any(self.subjects, question.subject):
            raise Rejected(FailureInfo.NOT_AUTHORIZED, _NO)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelPolicy:
    """What ``<label>`` of ``/.well-known/cmp/p/<label>`` selects (RFC 9811, 3.4).

    Attributes:
        validation: which rules are checked; None: those of the Responder.
        profiles: names of issuing profiles, the first for who names none by certProfile; empty: as without a label.
        policy: who may ask here, beside the Responder's own policy.
        implicit_confirm: grant implicit confirmation to who asks for it; None: as the Responder.
    """

    validation: ValidationProfile | None = None
    profiles: tuple[str, ...] = ()
    policy: Policy | None = None
    implicit_confirm: bool | None = None

    def issuing_profile(self, named: str | None) -> str | None:
        """The name of the issuing profile for who names this one, or none.

        Raises:
            Rejected: badCertTemplate, it is not to be had here.
        """
        if not self.profiles:
            return named
        if named is not None and named not in self.profiles:
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "no such certProfile")
        return named or self.profiles[0]
