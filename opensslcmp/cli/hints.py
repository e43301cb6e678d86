"""What to do about an error, for the person who typed the command: one line, or none where the error says it all."""

from __future__ import annotations

from opensslcmp.enums import FailureInfo
from opensslcmp.errors import ProtectionError, Rejected, TimedOut, TransportError, Unsupported

__all__ = ["EXTRAS", "hint", "words"]

EXTRAS = {
    "sqlalchemy": "server",
    "httptools": "server",
    "prometheus_client": "server",
    "psycopg": "postgres",
    "psycopg_pool": "postgres",
    "greenlet": "server",
    "anyio": "async",
    "aiocoap": "coap",
}
"""Module -> the extra of this package that brings it."""

_TRANSPORT = (
    ("HTTP 404", "is the path in --server right? By default it is /.well-known/cmp"),
    ("HTTP 405", "is the path in --server that of a CMP server?"),
    ("HTTP 503", "the server is busy or ends; try again later"),
    ("HTTP 429", "the server has had too many messages, or too many wrong ones; try again later"),
    ("Connection refused", "does the server run there, and are host and port in --server right?"),
    ("cannot resolve", "is the host in --server spelled right, and does this machine know a name server?"),
    ("certificate was refused", "--tls_trusted names the CAs of HTTPS servers; --tls_host the name in the certificate"),
    ("TLS handshake", "does the server speak HTTPS at this port? If not, write http:// in --server"),
)


def words(error: BaseException) -> str:
    """What happened, without the numbers and quotes of the operating system's errors."""
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        return f"the Python package {error.name.partition('.')[0]} is not installed"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return str(error) or type(error).__name__


def hint(error: BaseException) -> str | None:
    """What may help, or None."""
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        extra = EXTRAS.get(error.name.partition(".")[0])
        return extra and f"pip install 'opensslcmp[{extra}]', or in its sources: pip install '.[{extra}]'"
    if isinstance(error, PermissionError) and error.filename is not None:
        return "run it as the user whose files these are: runuser -u USER -- opensslcmp ..."
    if isinstance(error, TimedOut):
        return "is the server reachable from here (firewall, --proxy)? --msg_timeout and --total_timeout say how long to wait"
    if isinstance(error, TransportError):
        return next((text for sign, text in _TRANSPORT if sign in str(error)), None)
    if isinstance(error, ProtectionError):
        return _trust(error)
    if isinstance(error, Rejected):
        return _rejection(error)
    if isinstance(error, Unsupported):
        return "opensslcmp doctor shows what the linked OpenSSL has"
    return None


def _trust(error: ProtectionError) -> str:
    text = str(error)
    if "the answer says" in text or "MAC" in text or "does not verify" in text:
        return "are --ref and --secret, or --cert and --key, the ones that this server knows?"
    if "expired" in text:
        return (
            "a certificate on the way from the server's to --trusted has expired; is the clock of this machine right?"
        )
    return "--trusted names the file with the server's CA certificate (ca.pem), --untrusted those between"


def _rejection(error: Rejected) -> str | None:
    if FailureInfo.BAD_MESSAGE_CHECK in error.failures:
        return "are --ref and --secret, or --cert and --key, the ones that this server knows?"
    if FailureInfo.SIGNER_NOT_TRUSTED in error.failures:
        return "has --cert expired (enroll anew then, with a secret), or is it from another CA than this server's?"
    if FailureInfo.CERT_REVOKED in error.failures:
        return "this certificate cannot be used any more: enroll anew, with a secret"
    if FailureInfo.BAD_TIME in error.failures:
        return "is the clock of this machine right?"
    return None
