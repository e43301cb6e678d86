"""Manual approval: requests for new certificates wait until a person has said yes or no.

Put in front of any authority. A request that the authority would refuse is refused at once; any other is filed in the store
and put off, and whoever opens the same store, in any process, decides. Key updates and revocations go through: they are
signed by the certificate that somebody approved before.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection
from typing import Any, Protocol, runtime_checkable

from cryptography import x509

from opensslcmp.asn1 import Extension, InfoTypeAndValue, decode, elements, unwrap
from opensslcmp.context.certificates import facts
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import Rejected
from opensslcmp.server.authority import (
    Authority,
    CertificateRequest,
    InfoRequest,
    Issued,
    Pending,
    Publisher,
    RevocationRequest,
)
from opensslcmp.server.store import Application, Store, TransactionState

__all__ = ["Approval", "Previewer", "pending_applications"]

_SAN = "2.5.29.17"


@runtime_checkable
class Previewer(Protocol):
    """An authority that can tell what it would refuse. May be called from several threads at once."""

    def preview(self, request: CertificateRequest) -> None:
        """Return when ``issue`` would give a certificate.

        Raises:
            Rejected: as ``issue`` would.
        """


class Approval:
    """An ``Authority`` that waits for a person, and then asks another one. May be used by several threads at once.

    Args:
        authority: issues what is approved, and does everything else.
        store: where applications are filed; the Responder has the same.
        kinds: of requests that wait.
        keep_seconds: how long applications are kept, decided or not; longer than requesters may poll.
        least_seconds, most_seconds: when requesters are told to ask again: the longer they wait, the later.
    """

    def __init__(
        self,
        authority: Authority,
        store: Store,
        *,
        kinds: Collection[BodyType] = (BodyType.IR, BodyType.CR, BodyType.P10CR),
        keep_seconds: float = 30 * 86400.0,
        least_seconds: int = 5,
        most_seconds: int = 3600,
    ) -> None:
        self.authority = authority
        self.store = store
        self._kinds = frozenset(kinds)
        self._keep_seconds = keep_seconds
        self._least_seconds = least_seconds
        self._most_seconds = most_seconds

    def __getattr__(self, name: str) -> Any:
        """What else the authority says of itself, such as ``reuse_key``."""
        return getattr(self.authority, name)

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        """The certificate once it is approved; until then "later".

        Raises:
            Rejected: notAuthorized, in the words of who refused it; or as the authority.
        """
        if request.kind not in self._kinds:
            return self.authority.issue(request)
        application_id = _id_of(request)
        application = self.store.application(application_id)
        if application is None:
            if isinstance(self.authority, Previewer):
                self.authority.preview(request)
            application = self.store.file(self._application(application_id, request))
        if application.approved is None:
            waited = int(request.now.timestamp() - application.filed_at) // 4
            seconds = max(self._least_seconds, min(self._most_seconds, waited))
            return Pending(
                check_after_seconds=seconds, text="waits for approval", reference=application_id.encode("ascii")
            )
        if not application.approved:
            raise Rejected(FailureInfo.NOT_AUTHORIZED, application.reason or "refused by the operator")
        return self.authority.issue(request)

    def _application(self, application_id: str, request: CertificateRequest) -> Application:
        requester = request.requester
        if requester.certificate is not None:
            who = _subject(facts(requester.certificate).subject)
        else:
            who = (requester.reference or b"").decode("utf-8", "replace")
        now = request.now.timestamp()
        return Application(
            id=application_id,
            transaction_id=request.transaction_id,
            kind=request.kind,
            subject=_subject(request.subject),
            names=_names(request.extensions),
            key_hash=hashlib.sha256(request.public_key).hexdigest(),
            requester=who,
            address=request.peer.address,
            filed_at=now,
            expires=now + self._keep_seconds,
            label=request.peer.label,
            profile=request.cert_profile,
        )

    def confirm(self, issued: Issued, accepted: bool) -> Pending | None:
        """As the authority."""
        return self.authority.confirm(issued, accepted)

    def revoke(self, request: RevocationRequest) -> Pending | None:
        """As the authority."""
        return self.authority.revoke(request)

    def info(self, request: InfoRequest) -> list[InfoTypeAndValue] | Pending:
        """As the authority."""
        return self.authority.info(request)

    def publish(self) -> None:
        """As the authority, when it publishes."""
        if isinstance(self.authority, Publisher):
            self.authority.publish()


def pending_applications(store: Store) -> list[Application]:
    """Those that nobody decided and somebody still waits for, oldest first."""
    found = []
    for each in store.applications():
        if each.approved is None:
            transaction, _ = store.look(each.transaction_id, b"")
            if transaction is not None and transaction.state is TransactionState.WAITING:
                found.append(each)
    return found


def _id_of(request: CertificateRequest) -> str:
    """What is approved is this request of this requester at this place: whatever differs in anything is another one.

    It is long enough that nobody finds two requests with the same.
    """
    said = (
        request.transaction_id,
        request.cert_req_id,
        int(request.kind),
        request.requester.identity,
        request.subject,
        request.public_key,
        [(each.oid, each.critical, each.extn_value) for each in request.extensions],
        request.not_before and request.not_before.timestamp(),
        request.not_after and request.not_after.timestamp(),
        request.issuer,
        request.signing_algorithm,
        request.cert_profile,
        request.peer.label,
    )
    return hashlib.sha256(repr(said).encode()).hexdigest()[:40]


def _subject(name: bytes | None) -> str:
    try:
        return decode(x509.Name, name or b"0\x00").rfc4514_string()
    except ValueError:
        return (name or b"").hex()


def _names(extensions: tuple[Extension, ...]) -> str:
    """The subjectAltName for people: kinds that are text as they are, others in hexadecimal."""
    kinds = {0x81: "email", 0x82: "DNS", 0x86: "URI"}
    parts = []
    for value in [each.extn_value for each in extensions if each.oid == _SAN]:
        with contextlib.suppress(ValueError):  # the authority says what it thinks of one that does not decode
            for start, end in elements(value):
                item = value[start:end]
                kind = kinds.get(item[0])
                text = unwrap(item).decode("latin-1") if kind else item.hex()
                parts.append(f"{kind or 'other'}:{text}")
    return ", ".join(parts)
