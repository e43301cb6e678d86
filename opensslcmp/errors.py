"""Everything the package raises on purpose.

::

    CMPError
    ├── OpenSSLError         libcrypto said no: .queue
    │   ├── ProtectionError  MAC or signature of a message did not verify, or its signer is not trusted: .failure
    │   └── Unsupported      needs a newer OpenSSL: .since
    ├── BadMessage           a peer's message breaks a rule: .failure, .text
    ├── Rejected             the peer said no: .status, .failure, .text
    └── TransportError       no answer arrived; the cause is __cause__
        └── TimedOut

A caller's mistake is ``TypeError`` or ``ValueError``. No text here ever holds a secret.
"""

from collections.abc import Sequence
from typing import Any

from opensslcmp.enums import FailureInfo, PKIStatus

__all__ = [
    "BadMessage",
    "CMPError",
    "OpenSSLError",
    "ProtectionError",
    "Rejected",
    "TimedOut",
    "TransportError",
    "Unsupported",
]


class CMPError(Exception):
    """Base of all of the package's errors."""


class OpenSSLError(CMPError):
    """libcrypto said no.

    Attributes:
        queue: what its error queue held, oldest first (ERR_get_error_all(3)).
    """

    def __init__(self, queue: Sequence[str] = (), text: str = "") -> None:
        self.queue = tuple(queue)
        message = "; ".join(self.queue)
        if text:
            message = f"{text}: {message}" if message else text
        super().__init__(message or "OpenSSL failed without saying why")


class ProtectionError(OpenSSLError):
    """The protection of a message did not verify, or whoever made it is not trusted for it.

    Attributes:
        failure: the failInfo bit that says which (badMessageCheck, signerNotTrusted, badAlg, wrongIntegrity, ...).
    """

    def __init__(
        self, text: str, failure: FailureInfo = FailureInfo.BAD_MESSAGE_CHECK, queue: Sequence[str] = ()
    ) -> None:
        self.failure = failure
        super().__init__(queue, text)


class Unsupported(OpenSSLError):
    """The linked OpenSSL lacks this.

    Attributes:
        since: the first OpenSSL version that has it, such as ``"3.5"``.
    """

    def __init__(self, what: str, since: str) -> None:
        self.since = since
        super().__init__((), f"{what} needs OpenSSL {since} or newer")


class BadMessage(CMPError):
    """A peer's message breaks a rule of the protocol, or a limit of ours.

    Attributes:
        failure: the failInfo bit that the rule asks for.
        text: what is wrong, for people.
        header: the message's PKIHeader when that could be read, so that an answer can echo its ids; else None.
    """

    def __init__(self, failure: FailureInfo, text: str, header: Any = None) -> None:
        self.failure = failure
        self.text = text
        self.header = header
        super().__init__(f"{text} ({failure.text})")


class Rejected(CMPError):
    """The peer said no; an authority raises it to say no itself.

    Attributes:
        status: PKIStatus of the answer, ``REJECTION`` as a rule.
        failure: the first failInfo bit, or None.
        failures: all of them.
        text: the statusString, one item per line.
    """

    def __init__(
        self,
        failure: FailureInfo | None,
        *text: str,
        status: PKIStatus = PKIStatus.REJECTION,
        failures: Sequence[FailureInfo] = (),
    ) -> None:
        self.status = status
        self.failure = failure
        self.failures = tuple(failures) or (() if failure is None else (failure,))
        self.text = text
        words = [status.text, *(bit.text for bit in self.failures)]
        super().__init__(f"{', '.join(words)}: {'; '.join(text)}" if text else ", ".join(words))


class TransportError(CMPError):
    """No answer arrived, or none that is a PKIMessage.

    Attributes:
        http_status: of an HTTP answer without a PKIMessage; None when there was none.
        retry_after_seconds: when that answer asked to come again (RFC 9110, 10.2.3); None when it said nothing.
        sent: the peer may have got the message; False when there was no connection to send it over.
    """

    def __init__(
        self,
        *text: str,
        http_status: int | None = None,
        retry_after_seconds: float | None = None,
        sent: bool = True,
    ) -> None:
        self.sent = sent
        self.http_status = http_status
        self.retry_after_seconds = retry_after_seconds
        super().__init__(*text)


class TimedOut(TransportError):
    """The answer did not arrive in time."""
