"""What can be wrong with a CA, each kind a small frozen dataclass for ``CA.misbehave``.

A fault acts at one of two places. ``decide`` is asked where the authority decides, so the answer is a right message of the
protocol that says no, or "later", or brings a wrong certificate. ``reply`` gets the answer that is ready to be sent, and gives
another one. What a fault alters in a message is protected anew with the credential of the answer, so that the client sees this
one fault and no other.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from opensslcmp.asn1 import (
    ErrorMsgContent,
    Message,
    PKIStatusInfo,
    assemble,
    directory_name,
    encode_body,
    protected_part,
)
from opensslcmp.asn1.message import general_time
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.errors import Rejected
from opensslcmp.server.authority import CertificateRequest, InfoRequest, Pending, RevocationRequest

if TYPE_CHECKING:
    from opensslcmp.testing.ca import CA

__all__ = [
    "Corrupt",
    "Delay",
    "Drop",
    "ErrorMessage",
    "Fault",
    "Garbage",
    "HTTPStatus",
    "Impostor",
    "Misissue",
    "Reject",
    "Reply",
    "Request",
    "Truncate",
    "Unprotected",
    "Wait",
]

Request: TypeAlias = CertificateRequest | RevocationRequest | InfoRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What goes back to the client, and how.

    Attributes:
        body: the answer.
        message: the answer, read; None when there is none or it is no PKIMessage.
        request: what is answered, read; None when it is no PKIMessage.
        delay_seconds: how long it takes.
        lost: the connection ends without it.
        http_status, retry_after_seconds: of HTTP.
    """

    body: bytes
    message: Message | None
    request: Message | None
    delay_seconds: float = 0.0
    lost: bool = False
    http_status: int = 200
    retry_after_seconds: int | None = None


class Fault:
    """Base of all faults, and of your own: override what is to be different."""

    arrives = True
    """The request reaches the CA at all."""

    def decide(self, request: Request) -> Pending | Request | None:
        """Asked before the CA decides on a request.

        Returns:
            "later", or another request to be decided on in its place, or None for no difference.

        Raises:
            Rejected: the CA says no.
        """
        return None

    def reply(self, reply: Reply, ca: CA) -> Reply:
        """What is sent in place of ``reply``."""
        return reply


@dataclass(frozen=True, slots=True)
class Reject(Fault):
    """The CA says no: status rejection with a failInfo, in ip, cp, kup, rp, or an error message to a genm.

    Args:
        failure: None says no without a reason.
        text: statusString.
        status: in place of rejection.
    """

    failure: FailureInfo | None
    text: str = "refused by the test"
    status: PKIStatus = PKIStatus.REJECTION

    def decide(self, request: Request) -> Pending | Request | None:
        raise Rejected(self.failure, self.text, status=self.status)


@dataclass(frozen=True, slots=True)
class Wait(Fault):
    """The CA says "waiting", and only decides when it was polled often enough.

    Args:
        polls: how many pollReqs are answered with pollRep; None: all of them.
        check_after_seconds: when the client is asked to come again.
        text: the reason that is given.
    """

    polls: int | None = 1
    check_after_seconds: int = 0
    text: str = ""

    def decide(self, request: Request) -> Pending | Request | None:
        return self._pending(self.polls) if request.pending is None else None

    def later(self) -> Pending:
        """ "Later", once more."""
        return self._pending(None if self.polls is None else self.polls - 1)

    def _pending(self, left: int | None) -> Pending:
        reference = json.dumps((left, self.check_after_seconds, self.text)).encode()
        return Pending(check_after_seconds=self.check_after_seconds, text=self.text, reference=reference)

    @classmethod
    def of(cls, reference: bytes) -> Wait:
        """What is left of the waiting that this ``Pending.reference`` is from."""
        return cls(*json.loads(reference))


@dataclass(frozen=True, slots=True)
class Misissue(Fault):
    """The certificate is not what was asked for, while the status says accepted.

    Args:
        what: ``key``: it is for another key; ``subject``: for another name; ``expired``: it is over already.
    """

    what: Literal["key", "subject", "expired"]

    def decide(self, request: Request) -> Pending | Request | None:
        if not isinstance(request, CertificateRequest):
            return None
        match self.what:
            case "key":
                return dataclasses.replace(request, public_key=PrivateKey.generate("ec:P-256").public_key_der)
            case "subject":
                from opensslcmp.client.context import name_from

                return dataclasses.replace(request, subject=name_from("CN=somebody else"), old_certificate=None)
            case "expired":
                long_ago = request.now - timedelta(days=3650)
                return dataclasses.replace(request, now=long_ago, not_before=None, not_after=None)


@dataclass(frozen=True, slots=True)
class Delay(Fault):
    """The answer takes its time.

    Args:
        seconds: how much; a client that waits less gets ``TimedOut``.
    """

    seconds: float

    def reply(self, reply: Reply, ca: CA) -> Reply:
        return dataclasses.replace(reply, delay_seconds=reply.delay_seconds + self.seconds)


@dataclass(frozen=True, slots=True)
class Drop(Fault):
    """No answer arrives: the connection ends.

    Args:
        arrives: the CA got the request and did what it asked; False: it never saw it.
    """

    arrives: bool = True

    def reply(self, reply: Reply, ca: CA) -> Reply:
        return dataclasses.replace(reply, lost=True)


@dataclass(frozen=True, slots=True)
class HTTPStatus(Fault):
    """An HTTP answer without a PKIMessage; the CA never sees the request.

    Args:
        status: such as 503.
        retry_after_seconds: what Retry-After says; None: there is none.
    """

    status: int
    retry_after_seconds: int | None = None
    arrives: bool = dataclasses.field(default=False, init=False)

    def reply(self, reply: Reply, ca: CA) -> Reply:
        seconds = self.retry_after_seconds
        return dataclasses.replace(reply, body=b"", http_status=self.status, retry_after_seconds=seconds)


@dataclass(frozen=True, slots=True)
class Garbage(Fault):
    """Bytes that are no PKIMessage, in place of the answer."""

    body: bytes = b"not a PKIMessage"

    def reply(self, reply: Reply, ca: CA) -> Reply:
        return dataclasses.replace(reply, body=self.body)


@dataclass(frozen=True, slots=True)
class Truncate(Fault):
    """The answer ends early.

    Args:
        length: how many bytes are left; negative: how many are missing.
    """

    length: int = -1

    def reply(self, reply: Reply, ca: CA) -> Reply:
        return dataclasses.replace(reply, body=reply.body[: self.length])


@dataclass(frozen=True, slots=True)
class Unprotected(Fault):
    """The answer without its protection."""

    def reply(self, reply: Reply, ca: CA) -> Reply:
        if (message := reply.message) is None:
            return reply
        header = dataclasses.replace(message.header, protection_alg=None, sender_kid=None)
        part = protected_part(header, message.body_type, message.body_der)
        return dataclasses.replace(reply, body=assemble(part, None, message.extra_certs))


@dataclass(frozen=True, slots=True)
class Impostor(Fault):
    """Somebody else answers: under the same names, with another key or another secret."""

    def reply(self, reply: Reply, ca: CA) -> Reply:
        if (message := reply.message) is None:
            return reply
        body = ca.protect(reply, message.header, message.body_type, message.body_der, forged=True)
        return dataclasses.replace(reply, body=body)


@dataclass(frozen=True, slots=True)
class ErrorMessage(Fault):
    """An error message in place of the answer, protected as the answer was.

    Args:
        failure: None: no failInfo.
        text: statusString.
        status: in place of rejection.
    """

    failure: FailureInfo | None
    text: str = "an error by order of the test"
    status: PKIStatus = PKIStatus.REJECTION

    def reply(self, reply: Reply, ca: CA) -> Reply:
        if (message := reply.message) is None:
            return reply
        content = ErrorMsgContent(pki_status_info=PKIStatusInfo.make(self.status, self.text, failure=self.failure))
        body = ca.protect(reply, message.header, BodyType.ERROR, encode_body(BodyType.ERROR, content))
        return dataclasses.replace(reply, body=body)


Field = Literal[
    "transactionID", "senderNonce", "recipNonce", "messageTime", "sender", "protection", "body", "bodyType", "pvno"
]


@dataclass(frozen=True, slots=True)
class Corrupt(Fault):
    """One field of the answer is wrong; all but ``protection`` and ``body`` are under a protection that is right.

    Args:
        what: ``transactionID``: of another transaction. ``senderNonce``: missing. ``recipNonce``: not the client's.
            ``messageTime``: a year ago. ``sender``: somebody else. ``pvno``: 1. ``bodyType``: pkiconf, whatever was asked.
            ``protection``: one bit of it is wrong. ``body``: one bit of what it protects is.
    """

    what: Field

    def reply(self, reply: Reply, ca: CA) -> Reply:
        if (message := reply.message) is None:
            return reply
        if self.what == "protection":
            *_, last = message.protection or b"\0"
            part = message.protected_part
            bits = (message.protection or b"\0")[:-1] + bytes((last ^ 1,))
            return dataclasses.replace(reply, body=assemble(part, bits, message.extra_certs))
        if self.what == "body":
            part = message.protected_part
            altered = part[:-1] + bytes((part[-1] ^ 1,))
            return dataclasses.replace(reply, body=assemble(altered, message.protection, message.extra_certs))
        body_type, body_der, header = message.body_type, message.body_der, message.header
        if self.what == "bodyType":
            body_type, body_der = BodyType.PKICONF, encode_body(BodyType.PKICONF, None)
        else:
            header = dataclasses.replace(header, **_WRONG[self.what]())
        return dataclasses.replace(reply, body=ca.protect(reply, header, body_type, body_der))


def _somebody_else() -> Any:
    from opensslcmp.client.context import name_from

    return directory_name(name_from("CN=somebody else"))


_WRONG: dict[str, Callable[[], dict[str, Any]]] = {
    "transactionID": lambda: {"transaction_id": os.urandom(16)},
    "senderNonce": lambda: {"sender_nonce": None},
    "recipNonce": lambda: {"recip_nonce": os.urandom(16)},
    "messageTime": lambda: {"message_time": general_time(datetime.now(UTC) - timedelta(days=365))},
    "sender": lambda: {"sender": _somebody_else()},
    "pvno": lambda: {"pvno": 1},
}
