"""Announcements that a server receives: a hook for each kind, and what is acknowledged how.

=====================================================  ==================================================
what became of an announcement                         what the receiver says by HTTP (RFC 9811, 3.5)
=====================================================  ==================================================
the hook took it (it returned None)                    201, no content
the hook is going to (it returned False)               202, no content: it may come again
a rule is broken, or the hook raised ``Rejected``      400 or 403
the server is closed, or was asked too often           503, 429
the hook failed                                        500
=====================================================  ==================================================

No message of CMP answers an announcement, but other transfers have no status: who refuses gives them an error message.

Source: RFC 9810, 5.3.13 to 5.3.16; RFC 9811, 3.3 and 3.5.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from opensslcmp.client.announcements import ANNOUNCEMENTS, Announcement, receive_announcement
from opensslcmp.client.context import Context
from opensslcmp.context.certificates import Trust
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage, ProtectionError, Rejected
from opensslcmp.server.peer import Peer

__all__ = ["Ears", "Hook", "Receiver", "Taken", "Unheard"]

logger = logging.getLogger("opensslcmp.server")

Hook: TypeAlias = Callable[[Announcement], Literal[False] | None]
"""Takes an announcement: None when it is done, False when it will be. It may come again, and is the same then.

It raises ``Rejected`` to refuse it. It is called on the thread that handles messages, so it should not take long.
"""


class Taken(bytes):
    """No bytes: what was announced is stored; over HTTP 201."""


class Unheard(bytes):
    """An error message about an announcement, and the HTTP status that takes its place."""

    http_status: int

    @classmethod
    def because(cls, failure: FailureInfo, answer: bytes) -> Unheard:
        """This answer, with the status that is for this failInfo."""
        made = cls(answer)
        made.http_status = _STATUSES.get(failure, 400)
        return made


_STATUSES = {
    FailureInfo.BAD_MESSAGE_CHECK: 403,
    FailureInfo.WRONG_INTEGRITY: 403,
    FailureInfo.SIGNER_NOT_TRUSTED: 403,
    FailureInfo.NOT_AUTHORIZED: 403,
    FailureInfo.CERT_REVOKED: 403,
    FailureInfo.SYSTEM_UNAVAIL: 503,
    FailureInfo.SYSTEM_FAILURE: 500,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ears:
    """What a Responder listens for.

    Attributes:
        trust: who may announce stands below these anchors.
        hooks: what is called, by kind; a kind without one is refused.

    Raises:
        ValueError: a hook for what is no announcement.
    """

    trust: Trust
    hooks: Mapping[BodyType, Hook]

    def __post_init__(self) -> None:
        if strange := self.hooks.keys() - ANNOUNCEMENTS:
            raise ValueError(f"no announcements: {', '.join(sorted(each.text for each in strange))}")

    def take(self, announcement: Announcement) -> bytes:
        """Hand it to its hook, and acknowledge it.

        Raises:
            BadMessage: it is refused, or does not decode.
        """
        announcement.check()
        return _taken(self.hooks, announcement)


def _taken(hooks: Mapping[BodyType, Hook], announcement: Announcement) -> bytes:
    hook = hooks.get(announcement.kind)
    if hook is None:
        raise BadMessage(FailureInfo.BAD_REQUEST, f"nobody listens for {announcement.kind.text} here")
    try:
        return b"" if hook(announcement) is False else Taken()
    except Rejected as error:
        text = "; ".join(error.text) or "refused"
        raise BadMessage(error.failure or FailureInfo.BAD_REQUEST, text) from error


class Receiver:
    """Takes announcements and nothing else: for who is no CA, and holds its root. Stands where a Responder would.

    Args:
        context: whom it believes; ``unprotected_requests=True`` does without a credential.
        hooks: what is called, by kind.

    ``App(Receiver(context, hooks))`` receives by HTTP, under any ASGI server.
    """

    def __init__(self, context: Context, hooks: Mapping[BodyType, Hook]) -> None:
        self._context = context
        self._hooks = hooks

    def handle(self, der: bytes, peer: Peer = Peer()) -> bytes:  # noqa: B008 -- immutable
        """No bytes, or an ``Unheard``. Never raises; what fails is logged."""
        try:
            return _taken(self._hooks, receive_announcement(self._context, bytes(der)))
        except (BadMessage, ProtectionError) as error:
            logger.info("an announcement was refused: %s", error)
            return Unheard.because(error.failure, b"")
        except Exception:
            logger.exception("an announcement could not be taken")
            return Unheard.because(FailureInfo.SYSTEM_FAILURE, b"")
