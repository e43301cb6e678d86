"""A connection to an HTTP(S) server: a BIO over a socket, TLS by libssl, one crossing per message.

Why this is not ``OSSL_HTTP_REQ_CTX`` (OSSL_HTTP_transfer(3)), which was the plan. Measured on 3.0.19, which Debian 12
has:

==========================================  =========================================================================
a PKIMessage under HTTP 4xx or 5xx          lost: "received error"; RFC 9811, 3.1 makes handling it a MUST (3.5 can)
``Content-Type: application/pkixcmp; x=y``  refused: "unexpected content type"
201 and 202, for announcements              refused: "status code unsupported", so is 100 Continue
chunked answers (an HTTP/1.1 proxy)         refused: "missing asn1 encoding"
endless header lines                        read until the timeout; no bound below 3.3
timeouts                                    whole seconds: 1 second ended an answer after 0.65; names are not covered
header and body                             two segments, so 40 ms a message behind Nagle and delayed ACK
a server that closed the idle connection    write(2) raises SIGPIPE
==========================================  =========================================================================

None of that can be set from outside on 3.0. So HTTP is written and read in ``transport.http1``, in Python, where a
hostile answer cannot touch memory, and libcrypto keeps what it is good at: BIOs, and TLS with provider keys and its
trust.

A connection never blocks by itself: ``step`` does what can be done now and says what it waits for. With ``patience``
it waits a little inside C first, which makes the usual request and its answer one crossing. A signal ends that wait,
so Ctrl-C works.
"""

import enum
import os
from collections.abc import Sequence
from typing import Any

from opensslcmp._native import ffi, lib
from opensslcmp._native.memory import decode, give, own
from opensslcmp._native.queue import check, clear, drain
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.verification import VerifyParameters
from opensslcmp.errors import OpenSSLError, TransportError

__all__ = ["Connection", "Outcome", "TLSContext"]

# 64 KiB that C overwrites need not be zeroed for each step.
_new_io = ffi.new_allocator(should_clear_after_alloc=False)
_METHOD = check(lib.opensslcmp_socket_method())


class Outcome(enum.IntEnum):
    """How far a connection got."""

    CLOSED = lib.OPENSSLCMP_HTTP_CLOSED
    DATA = lib.OPENSSLCMP_HTTP_DATA
    WANTS_READ = lib.OPENSSLCMP_HTTP_WANTS_READ
    WANTS_WRITE = lib.OPENSSLCMP_HTTP_WANTS_WRITE


_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


class TLSContext:
    """Whom we trust and who we are in TLS, 1.2 or newer. Immutable, shared by threads and connections.

    Args:
        trusted: DER of the certificates to trust, or None for the system's store.
        certificates: DER of our own certificate and its chain, own first; none: no client certificate.
        key: that of our own certificate.
        verify: whether the server must show a certificate that we trust.
        parameters: what its path must be like.

    Raises:
        OpenSSLError: a certificate does not decode, or the key does not fit.

    Source: SSL_CTX_new(3).
    """

    __slots__ = ("_ptr",)

    def __init__(
        self,
        *,
        trusted: Sequence[bytes] | None = None,
        certificates: Sequence[bytes] = (),
        key: PrivateKey | None = None,
        verify: bool = True,
        parameters: VerifyParameters | None = None,
    ) -> None:
        clear()
        self._ptr: Any = own(lib.opensslcmp_tls_new(ffi.NULL, ffi.NULL, trusted is None), lib.SSL_CTX_free)
        for der in trusted or ():
            check(lib.opensslcmp_tls_trust(self._ptr, _certificate(der)))
        if not verify:
            lib.opensslcmp_tls_unverified(self._ptr)
        if parameters is not None:
            check(lib.opensslcmp_tls_param(self._ptr, parameters.native()))
        if certificates and key is not None:
            check(lib.opensslcmp_tls_identity(self._ptr, _certificate(certificates[0]), key._ptr))
            for der in certificates[1:]:
                check(lib.opensslcmp_tls_chain(self._ptr, _certificate(der)))
        clear()


class Connection:
    """A connected, non-blocking socket, bare or under TLS. One caller at a time.

    Args:
        fd: taken over: closed by ``close`` or when the object goes away.

    Attributes:
        fd: to wait on.
        reused: it has carried a whole exchange before.
        idle_since: ``time.monotonic()`` of the end of the last exchange.
    """

    __slots__ = ("_ptr", "_tls", "fd", "idle_since", "reused")

    def __init__(self, fd: int) -> None:
        self._tls = False
        self._ptr: Any = own(lib.opensslcmp_socket_new(_METHOD, fd), lib.BIO_free_all)
        self.fd = fd
        self.reused = False
        self.idle_since = 0.0

    def start_tls(self, tls: TLSContext, *, server_name: str | None, host: str | None, address: str | None) -> None:
        """Put TLS in front; ``handshake`` comes next.

        Args:
            tls: whom to trust, and who we are.
            server_name: sent as SNI.
            host: DNS name that the server's certificate must carry.
            address: IP address that it must carry instead.

        Raises:
            OpenSSLError: libssl refused a name.

        Source: BIO_f_ssl(3), SSL_set1_host(3).
        """
        clear()
        # The chain frees both parts. Until it stands, the socket's BIO stays owned by itself.
        chain = check(lib.opensslcmp_tls_start(tls._ptr, self._ptr, *(_text(x) for x in (server_name, host, address))))
        give(self._ptr)
        self._ptr = own(chain, lib.BIO_free_all)
        self._tls = True

    def handshake(self, patience: float = 0.0) -> Outcome:
        """Go on with the TLS handshake: ``DATA`` when it is complete.

        Raises:
            TransportError: no TLS came about; the text says why, in words of certificate verification where that is
                why.

        Source: BIO_do_handshake(3), SSL_get_verify_result(3).
        """
        io = _new_io("opensslcmp_http_io *")
        done = lib.opensslcmp_tls_handshake(self._open(), self.fd, io, _milliseconds(patience))
        if done >= 0:
            return _OUTCOMES[done]
        queue = drain()
        if io.verify:
            why = ffi.string(lib.X509_verify_cert_error_string(io.verify)).decode()
            text = f"TLS: the server's certificate was refused: {why}"
        elif io.error:
            text = f"TLS handshake: {os.strerror(io.error)}"
        else:
            text = f"TLS handshake: {'; '.join(queue) or 'the server closed the connection'}"
        raise TransportError(text) from OpenSSLError(queue)

    def step(
        self, request: bytes, sent: int, *, after_idling: bool = False, patience: float = 0.0
    ) -> tuple[Outcome, int, bytes]:
        """Send what is left of ``request``, then read what has arrived.

        Args:
            request: the whole of it.
            sent: how much of it earlier steps have sent.
            after_idling: first see whether the server closed the connection meanwhile, and send nothing then.
            patience: seconds to wait inside; 0 only does what can be done now.

        Returns:
            What happened (``CLOSED``: the server ended it), how much of the request is sent, and what was read.

        Raises:
            TransportError: the connection broke, or TLS failed.

        Source: BIO_write(3), BIO_read(3), in one crossing.
        """
        io = _new_io("opensslcmp_http_io *")
        io.sent = sent
        done = lib.opensslcmp_http_step(
            self._open(),
            self.fd,
            io,
            ffi.from_buffer(request),
            len(request),
            after_idling,
            _milliseconds(patience),
        )
        if done >= 0:
            return _OUTCOMES[done], io.sent, ffi.buffer(io.data, io.got)[:]
        queue = drain()
        if error := io.error:
            raise TransportError(os.strerror(error)) from OSError(error, os.strerror(error))
        raise TransportError("; ".join(queue) or "the connection broke") from OpenSSLError(queue)

    @property
    def tls_version(self) -> str | None:
        """``"TLSv1.3"``, or None without TLS."""
        return ffi.string(lib.opensslcmp_tls_version(self._open())).decode() if self._tls else None

    def close(self, *, politely: bool = False) -> None:
        """Close the socket. May be called twice.

        Args:
            politely: tell the other end so first, in TLS. Not in a forked child, whose parent still uses the
                connection.
        """
        pointer, self._ptr = self._ptr, None
        if pointer is not None:
            if politely and self._tls:
                lib.opensslcmp_tls_end(pointer)
            ffi.release(pointer)
            clear()

    def _open(self) -> Any:
        if self._ptr is None:
            raise ValueError("the connection is closed")
        return self._ptr


def _certificate(der: bytes) -> Any:
    return decode(lib.d2i_X509, lib.X509_free, der)


def _milliseconds(seconds: float) -> int:
    return min(int(seconds * 1000), 60_000)


def _text(text: str | None) -> Any:
    return ffi.NULL if text is None else text.encode("ascii")
