"""OSSL_CMP_SRV_CTX as a Python object (OSSL_CMP_SRV_CTX_new(3)).

It holds one transaction, knows one secret, and takes follow-ups from any client it trusts: good for a test or a gateway
with one client, and as a peer to test others with. A CA for many uses :class:`opensslcmp.server.responder.Responder`.

What it is given passes :mod:`opensslcmp.asn1.gate` first, with the body types that a server takes: any other, validated, would
make libcrypto take the caPubs of a client into the server's trust store.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from opensslcmp._native import ffi, lib
from opensslcmp._native.callbacks import Caller, callback
from opensslcmp._native.levels import require
from opensslcmp._native.memory import decode, encode, give, own
from opensslcmp._native.queue import check, drain
from opensslcmp.asn1 import PKIStatusInfo, admit
from opensslcmp.asn1 import common as asn1
from opensslcmp.context import natives
from opensslcmp.context.client import ClientContext
from opensslcmp.context.natives import CertificateLike, Native
from opensslcmp.enums import BodyType, PKIStatus
from opensslcmp.errors import OpenSSLError, Rejected

__all__ = ["CertificateAnswer", "ServerContext"]

_ACCEPTED = frozenset(
    (
        *(BodyType.IR, BodyType.CR, BodyType.P10CR, BodyType.KUR, BodyType.RR, BodyType.GENM),
        *(BodyType.CERT_CONF, BodyType.POLL_REQ, BodyType.ERROR),
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateAnswer:
    """What a request for a certificate gets.

    Args:
        certificate: the new one, or None: the client is told to wait.
        status: ``accepted``, or ``waiting`` without a certificate, unless given.
        chain: sent in extraCerts.
        ca_certificates: sent as caPubs, in an ip only.
    """

    certificate: CertificateLike | None = None
    status: PKIStatusInfo | None = None
    chain: Sequence[CertificateLike] = ()
    ca_certificates: Sequence[CertificateLike] = ()


Message: TypeAlias = bytes
"""The whole request, DER."""


class ServerContext(Caller):
    """Everything OSSL_CMP_SRV_CTX can do.

    Each argument answers one kind of message; a kind without one is refused. To refuse, raise ``Rejected``. Any other
    exception makes OpenSSL answer with an error, and comes out of :meth:`process`, or, after
    :meth:`ClientContext.connect`, out of the client's operation.

    Args:
        certificate: ``(message, request id, CertReqMsg or None, PKCS#10 or None)`` of ir, cr, kur or p10cr, whose proof
            of possession has been checked.
        revocation: ``(message, issuer, serial number)``, both DER, both None if the client named the certificate
        otherwise.
        info: ``(message, InfoTypeAndValues)`` of a genm to those of the genp.
        error: ``(message, status, code, details)``; the client has given up.
        confirmation: ``(message, request id, hash, status or None)`` of a certConf that has a certHash. OpenSSL does
            not compare the hash.
        poll: ``(message, request id)`` to seconds to wait, or to the original request (DER), which then is answered.
        delay: ``(message)``, whether to let the client wait, whatever it asked for. Since OpenSSL 3.3.
        clean: ``(transaction id or None)`` of a transaction that has ended; None before one begins. Since OpenSSL 3.3.
        library_context: an object with an OSSL_LIB_CTX as ``_ptr``; it is kept alive.
        property_query: which implementations to take.

    Raises:
        Unsupported: ``delay`` or ``clean`` before OpenSSL 3.3.

    Source: OSSL_CMP_SRV_CTX_new(3), OSSL_CMP_SRV_CTX_init(3).
    """

    def __init__(
        self,
        *,
        certificate: Callable[[Message, int, bytes | None, bytes | None], CertificateAnswer] | None = None,
        revocation: Callable[[Message, bytes | None, bytes | None], PKIStatusInfo] | None = None,
        info: Callable[[Message, tuple[bytes, ...]], Iterable[bytes]] | None = None,
        error: Callable[[Message, PKIStatusInfo, int | None, tuple[str, ...]], None] | None = None,
        confirmation: Callable[[Message, int, bytes, PKIStatusInfo | None], None] | None = None,
        poll: Callable[[Message, int], int | bytes] | None = None,
        delay: Callable[[Message], bool] | None = None,
        clean: Callable[[bytes | None], None] | None = None,
        library_context: Native | None = None,
        property_query: str | None = None,
    ) -> None:
        if delay is not None or clean is not None:
            require("3.3", "delay and clean")
        library = ffi.NULL if library_context is None else library_context._ptr
        query = ffi.NULL if property_query is None else property_query.encode()
        super().__init__(own(lib.OSSL_CMP_SRV_CTX_new(library, query), lib.OSSL_CMP_SRV_CTX_free))
        self._keep = library_context
        self._client: ClientContext | None = None
        self._certificate, self._revocation, self._info, self._error = certificate, revocation, info, error
        self._confirmation, self._poll, self._delay, self._clean = confirmation, poll, delay, clean
        self._settings: dict[str, bool] = {}
        # The C object is kept by the view of its OSSL_CMP_CTX, this one is not: no cycle.
        self._context = ClientContext._borrow(lib.OSSL_CMP_SRV_CTX_get0_cmp_ctx(self._ptr), self._owned)
        check(
            lib.OSSL_CMP_SRV_CTX_init(
                self._ptr,
                ffi.NULL,
                ffi.NULL if certificate is None else lib.opensslcmp_on_cert_request,
                ffi.NULL if revocation is None else lib.opensslcmp_on_revocation,
                ffi.NULL if info is None else lib.opensslcmp_on_info,
                ffi.NULL if error is None else lib.opensslcmp_on_error,
                ffi.NULL if confirmation is None else lib.opensslcmp_on_confirmation,
                ffi.NULL if poll is None else lib.opensslcmp_on_poll,
            )
        )
        if delay is not None or clean is not None:
            check(
                lib.OSSL_CMP_SRV_CTX_init_trans(
                    self._ptr,
                    ffi.NULL if delay is None else lib.opensslcmp_on_delay,
                    ffi.NULL if clean is None else lib.opensslcmp_on_clean,
                )
            )

    def __enter__(self) -> "ServerContext":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the C object now; ``context`` is closed with it.

        Raises:
            RuntimeError: C is at work on it.
        """
        super().close()
        self._context._owned = None

    @property
    def context(self) -> ClientContext:
        """The server's own credentials, trust and options.

        One caution: do not set its secret inside one of the callbacks, where OpenSSL may have put it aside.

        Source: OSSL_CMP_SRV_CTX_get0_cmp_ctx(3).
        """
        return self._context

    def process(self, request: bytes) -> bytes:
        """The answer to ``request``.

        Raises:
            BadMessage: it does not pass the gate.
            OpenSSLError: libcrypto does not decode it, or no answer can be made.

        Source: OSSL_CMP_SRV_process_request(3).
        """
        admit(request, accept=_ACCEPTED)
        out = ffi.new("unsigned char **")
        try:
            length = self.call(lib.opensslcmp_process, self._ptr, request, len(request), out)
            if length <= 0:
                raise OpenSSLError(drain())
            lib.ERR_clear_error()
            return bytes(ffi.buffer(out[0], length))
        finally:
            lib.opensslcmp_free(out[0])

    def raise_to(self, client: ClientContext) -> None:
        """From now on what a callback raises comes out of the operation of ``client``."""
        self._client = client

    def keep(self, error: BaseException) -> None:
        """Remember what a callback raised, where the call that led here will find it."""
        if self._busy or self._client is None:
            super().keep(error)
        else:
            self._client.keep(error)

    def _set(self, name: str, setter: Any, value: bool) -> None:
        check(setter(self._ptr, bool(value)))
        self._settings[name] = bool(value)

    @property
    def send_unprotected_errors(self) -> bool:
        """Whether errors are sent without protection."""
        return self._settings.get("send_unprotected_errors", False)

    @send_unprotected_errors.setter
    def send_unprotected_errors(self, value: bool) -> None:
        self._set("send_unprotected_errors", lib.OSSL_CMP_SRV_CTX_set_send_unprotected_errors, value)

    @property
    def accept_unprotected(self) -> bool:
        """Whether requests without protection, or with a wrong one, are accepted."""
        return self._settings.get("accept_unprotected", False)

    @accept_unprotected.setter
    def accept_unprotected(self, value: bool) -> None:
        self._set("accept_unprotected", lib.OSSL_CMP_SRV_CTX_set_accept_unprotected, value)

    @property
    def accept_ra_verified(self) -> bool:
        """Whether the word of an RA is accepted as proof of possession."""
        return self._settings.get("accept_ra_verified", False)

    @accept_ra_verified.setter
    def accept_ra_verified(self, value: bool) -> None:
        self._set("accept_ra_verified", lib.OSSL_CMP_SRV_CTX_set_accept_raverified, value)

    @property
    def grant_implicit_confirm(self) -> bool:
        """Whether a client that asks for it may do without certConf."""
        return self._settings.get("grant_implicit_confirm", False)

    @grant_implicit_confirm.setter
    def grant_implicit_confirm(self, value: bool) -> None:
        self._set("grant_implicit_confirm", lib.OSSL_CMP_SRV_CTX_set_grant_implicit_confirm, value)


def _message(pointer: Any) -> bytes:
    return encode(lib.i2d_OSSL_CMP_MSG, pointer)


def _optional(i2d: Any, pointer: Any) -> bytes | None:
    return encode(i2d, pointer) if pointer else None


def _status(pointer: Any) -> PKIStatusInfo:
    return asn1.decode(PKIStatusInfo, encode(lib.i2d_OSSL_CMP_PKISI, pointer))


def _native_status(status: PKIStatusInfo) -> Any:
    return decode(lib.d2i_OSSL_CMP_PKISI, lib.OSSL_CMP_PKISI_free, asn1.der(status))


def _refusal(rejected: Rejected) -> PKIStatusInfo:
    return PKIStatusInfo.make(rejected.status, *rejected.text, failures=rejected.failures)


@callback(on_failure=ffi.NULL)
def _on_cert_request(
    server: ServerContext, message: Any, request_id: int, crm: Any, p10: Any, cert: Any, chain: Any, ca_pubs: Any
) -> Any:
    cert[0] = chain[0] = ca_pubs[0] = ffi.NULL
    assert server._certificate is not None
    try:
        answer = server._certificate(
            _message(message), request_id, _optional(lib.i2d_OSSL_CRMF_MSG, crm), _optional(lib.i2d_X509_REQ, p10)
        )
    except Rejected as rejected:
        return give(_native_status(_refusal(rejected)))
    usual = PKIStatus.WAITING if answer.certificate is None else PKIStatus.ACCEPTED
    # All that can fail comes before the first give: C frees nothing when we fail.
    status = _native_status(answer.status or PKIStatusInfo.make(usual))
    stacks = [natives.certificates(some) for some in (answer.chain, answer.ca_certificates)]
    if answer.certificate is not None:
        pointer = natives.certificate(answer.certificate)
        check(lib.X509_up_ref(pointer))
        cert[0] = pointer
    chain[0], ca_pubs[0] = (give(stack) for stack in stacks)
    return give(status)


@callback(on_failure=ffi.NULL)
def _on_revocation(server: ServerContext, message: Any, issuer: Any, serial: Any) -> Any:
    assert server._revocation is not None
    try:
        status = server._revocation(
            _message(message), _optional(lib.i2d_X509_NAME, issuer), _optional(lib.i2d_ASN1_INTEGER, serial)
        )
    except Rejected as rejected:
        status = _refusal(rejected)
    return give(_native_status(status))


@callback(on_failure=0)
def _on_info(server: ServerContext, message: Any, given: Any, out: Any) -> int:
    out[0] = ffi.NULL
    assert server._info is not None
    natives.infos(server._info(_message(message), natives.der_of_infos(given)), out)
    return 1


@callback()
def _on_error(server: ServerContext, message: Any, status: Any, code: Any, details: Any) -> None:
    assert server._error is not None
    number = ffi.new("int64_t *")
    known = bool(code) and lib.ASN1_INTEGER_get_int64(number, code) == 1
    lib.ERR_clear_error()
    server._error(_message(message), _status(status), number[0] if known else None, natives.texts(details))


@callback(on_failure=0)
def _on_confirmation(server: ServerContext, message: Any, request_id: int, cert_hash: Any, status: Any) -> int:
    assert server._confirmation is not None
    server._confirmation(
        _message(message), request_id, natives.string(cert_hash), None if not status else _status(status)
    )
    return 1


@callback(on_failure=0)
def _on_poll(server: ServerContext, message: Any, request_id: int, original: Any, check_after: Any) -> int:
    # 3.0 leaves *original unset before calling us (cmp_server.c, process_pollReq).
    original[0], check_after[0] = ffi.NULL, 0
    assert server._poll is not None
    answer = server._poll(_message(message), request_id)
    if isinstance(answer, bytes):
        original[0] = give(decode(lib.d2i_OSSL_CMP_MSG, lib.OSSL_CMP_MSG_free, answer))
    else:
        check_after[0] = answer
    return 1


@callback(on_failure=-1)
def _on_delay(server: ServerContext, message: Any) -> int:
    assert server._delay is not None
    return int(server._delay(_message(message)))


@callback(on_failure=0)
def _on_clean(server: ServerContext, transaction_id: Any) -> int:
    assert server._clean is not None
    server._clean(natives.string(transaction_id) if transaction_id else None)
    return 1
