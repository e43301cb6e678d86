"""OSSL_CMP_CTX as a Python object (OSSL_CMP_CTX_new(3)).

A context is cheap (half a microsecond): make one per transaction. One caller at a time; different contexts may work in
different threads. DER goes in and out, see :mod:`opensslcmp.context.natives`.

Three things differ from C on purpose. Nothing is logged unless ``log_verbosity`` is raised above 2, because OpenSSL's
logging empties the error queue that our exceptions are made of. The trust store is made for this context and shared
with nobody, because OpenSSL adds the caPubs of a MAC-protected answer to it. And what ``transfer`` returns passes the
gate before OpenSSL decodes it. Without a ``transfer`` OpenSSL uses its own HTTP client, and then nothing does.
"""

import logging
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar

from opensslcmp._native import ffi, lib
from opensslcmp._native.callbacks import Caller, callback
from opensslcmp._native.levels import has, require
from opensslcmp._native.memory import decode, encode, give, own
from opensslcmp._native.queue import check, drain
from opensslcmp.asn1 import admit
from opensslcmp.context import natives
from opensslcmp.context.guard import refuse_dangerous
from opensslcmp.context.natives import CertificateLike, KeyLike, Native
from opensslcmp.context.verification import VerifyParameters
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import BadMessage, CMPError, OpenSSLError, ProtectionError, Rejected, Unsupported

if TYPE_CHECKING:
    from opensslcmp.context.server import ServerContext

__all__ = ["ClientContext", "PopoMethod", "can_have_key_generated"]

logger = logging.getLogger("opensslcmp.openssl")
LEVELS = (50, 50, 50, 40, 30, 20, 20, 10, 5)
"""Python's logging level for each OSSL_CMP_severity, EMERG to TRACE."""

QUIET = 2
"""Up to this verbosity OpenSSL leaves its errors in the queue."""

E = TypeVar("E", bound=IntEnum)

_logging: ContextVar["ClientContext | None"] = ContextVar("opensslcmp_logging", default=None)


class PopoMethod(IntEnum):
    """How possession of the private key is proved (RFC 4211, 4)."""

    NONE = -1
    RA_VERIFIED = 0
    SIGNATURE = 1
    KEY_ENCIPHERMENT = 2


class _Flag:
    """An option that is on or off."""

    def __init__(self, option: int, *, inverted: bool = False, since: str = "3.0") -> None:
        self.option, self.inverted, self.since = option, inverted, since

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, context: Any, owner: type) -> bool:
        if context is None:
            return self  # type: ignore[return-value]
        pointer = context._ptr
        return self.inverted != (has(self.since) and lib.OSSL_CMP_CTX_get_option(pointer, self.option) > 0)

    def __set__(self, context: Any, value: bool) -> None:
        pointer = context._ptr
        require(self.since, self.name)
        check(lib.OSSL_CMP_CTX_set_option(pointer, self.option, self.inverted != bool(value)))


class _Number:
    """An option that counts something; None where OpenSSL has a number that means "none"."""

    def __init__(self, option: int, *, none: int | None = None) -> None:
        self.option, self.none = option, none

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, context: Any, owner: type) -> int | None:
        if context is None:
            return self  # type: ignore[return-value]
        value: int = lib.OSSL_CMP_CTX_get_option(context._ptr, self.option)
        return None if self.none is not None and value <= self.none else value

    def __set__(self, context: Any, value: int | None) -> None:
        pointer = context._ptr
        if value is None and self.none is None:
            raise ValueError(f"{self.name} takes a number")
        if value is not None and value < 0:
            raise ValueError(f"{self.name} must not be negative")
        check(lib.OSSL_CMP_CTX_set_option(pointer, self.option, self.none if value is None else value))


class _Algorithm:
    """An option that names an algorithm: ``"SHA256"``, ``"hmac-sha256"`` or a dotted OID."""

    def __init__(self, option: int) -> None:
        self.option = option

    def __get__(self, context: Any, owner: type) -> str:
        if context is None:
            return self  # type: ignore[return-value]
        nid = lib.OSSL_CMP_CTX_get_option(context._ptr, self.option)
        short = lib.OBJ_nid2sn(nid) if nid > 0 else ffi.NULL
        check(short)
        return str(ffi.string(short).decode())

    def __set__(self, context: Any, value: str) -> None:
        pointer = context._ptr
        nid = lib.OBJ_txt2nid(value.encode())
        if nid == lib.NID_undef:
            lib.ERR_clear_error()
            raise ValueError(f"OpenSSL knows no algorithm named {value!r}")
        check(lib.OSSL_CMP_CTX_set_option(pointer, self.option, nid))


class _Value:
    """A value that OpenSSL copies and does not give back; reading tells what was set last."""

    def __init__(self, setter: Any, convert: Callable[[Any], Any], *, since: str = "3.0") -> None:
        self.setter, self.convert, self.since = setter, convert, since

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, context: Any, owner: type) -> Any:
        return self if context is None else context._values.get(self.name)

    def __set__(self, context: Any, value: Any) -> None:
        pointer = context._ptr
        require(self.since, self.name)
        check(self.setter(pointer, ffi.NULL if value is None else self.convert(value)))
        context._values[self.name] = value


class _Octets:
    """Bytes that OpenSSL copies and does not give back. A secret is not readable at all."""

    def __init__(self, setter: Any, *, secret: bool = False) -> None:
        self.setter, self.secret = setter, secret

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, context: Any, owner: type) -> bytes | None:
        if context is None:
            return self  # type: ignore[return-value]
        if self.secret:
            raise AttributeError(f"{self.name} can only be set")
        value: bytes | None = context._values.get(self.name)
        return value

    def __set__(self, context: Any, value: bytes | None) -> None:
        check(self.setter(context._ptr, ffi.NULL if value is None else value, len(value or b"")))
        if not self.secret:
            context._values[self.name] = value


class ClientContext(Caller):
    """Everything OSSL_CMP_CTX can do.

    Args:
        transfer: sends one request (DER) and returns the answer (DER); whatever it raises ends the operation and comes
            out of it. Without one OpenSSL's own HTTP client is used.
        confirm: looks at the new certificate (DER) before it is accepted. Raising ``Rejected`` refuses it with that
            failure and text, any other exception refuses it with systemFailure; either comes out of the operation.
        guard: whether answers pass the gate, and :func:`opensslcmp.context.guard.refuse_dangerous`, before OpenSSL
            decodes them. Turn it off for a ``transfer`` that sees to that itself.
        library_context: an object with an OSSL_LIB_CTX as ``_ptr``; it is kept alive. Let it live as long as the
            process: OpenSSL crashes at exit if one is freed in another thread than used it (OPENSSL_thread_stop(3)).
        property_query: which implementations to take, such as ``"fips=yes"``.

    Raises:
        OpenSSLError: out of memory.

    Source: OSSL_CMP_CTX_new(3).
    """

    def __init__(
        self,
        transfer: Callable[[bytes], bytes] | None = None,
        *,
        confirm: Callable[[bytes], None] | None = None,
        guard: bool = True,
        library_context: Native | None = None,
        property_query: str | None = None,
    ) -> None:
        library = ffi.NULL if library_context is None else library_context._ptr
        query = ffi.NULL if property_query is None else property_query.encode()
        super().__init__(own(lib.OSSL_CMP_CTX_new(library, query), lib.OSSL_CMP_CTX_free))
        self._setup(library_context, property_query)
        self._guarded = guard
        self.transfer = transfer
        if confirm is not None:
            self.confirm = confirm

    @classmethod
    def _borrow(cls, pointer: Any, owner: Any) -> "ClientContext":
        """The context that belongs to ``owner``, a server context."""
        self = cls.__new__(cls)
        Caller.__init__(self, pointer)
        self._setup(owner, None)
        self._borrowed = True
        return self

    def close(self) -> None:
        """Free the C context now, unless it belongs to a server context, which then frees it.

        Raises:
            RuntimeError: C is at work on it.
        """
        if not self._borrowed:
            super().close()

    def _setup(self, keep: object, property_query: str | None) -> None:
        self._keep: list[object] = [keep]
        self._text: Any = ffi.NULL
        self._values: dict[str, Any] = {}
        self._answer: bytes | None = None
        self._transfer: Callable[[bytes], bytes] | None = None
        self._confirm: Callable[[bytes], None] | None = None
        self._http: tuple[Callable[[Any, bool, int], Any], Any] | None = None
        self._lines: list[str] = []
        self._talks = False
        self._exchanged = False
        self._borrowed = False
        self._guarded = True
        self._nameless = False
        self.property_query = property_query
        check(lib.OSSL_CMP_CTX_set_option(self._ptr, lib.OSSL_CMP_OPT_LOG_VERBOSITY, QUIET))

    def __enter__(self) -> "ClientContext":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def reset(self) -> None:
        """Forget the transaction: results, nonces, transaction id. Settings stay, also what peers added to them.

        Source: OSSL_CMP_CTX_reinit(3). A fresh context is cheaper to reason about.
        """
        self._check(self.call(lib.OSSL_CMP_CTX_reinit, self._ptr))

    # Options: OSSL_CMP_CTX_set_option(3)

    keep_alive = _Number(lib.OSSL_CMP_OPT_KEEP_ALIVE)
    """Of OpenSSL's own HTTP: 0 no, 1 ask for it, 2 insist."""
    message_timeout_seconds = _Number(lib.OSSL_CMP_OPT_MSG_TIMEOUT, none=0)
    """Of OpenSSL's own HTTP, per round trip."""
    total_timeout_seconds = _Number(lib.OSSL_CMP_OPT_TOTAL_TIMEOUT, none=0)
    """For a whole transaction, waiting included."""
    use_tls = _Flag(lib.OSSL_CMP_OPT_USE_TLS, since="3.2")
    """Of OpenSSL's own HTTP. 3.0 takes the presence of an HTTP hook's argument for it."""
    validity_days = _Number(lib.OSSL_CMP_OPT_VALIDITY_DAYS)
    """Days of validity to ask for, 0 to leave it to the server."""
    inherit_subject_alt_names = _Flag(lib.OSSL_CMP_OPT_SUBJECTALTNAME_NODEFAULT, inverted=True)
    """Whether the old certificate's names are asked for when none are given."""
    subject_alt_names_critical = _Flag(lib.OSSL_CMP_OPT_SUBJECTALTNAME_CRITICAL)
    policies_critical = _Flag(lib.OSSL_CMP_OPT_POLICIES_CRITICAL)
    implicit_confirm = _Flag(lib.OSSL_CMP_OPT_IMPLICIT_CONFIRM)
    """Whether to ask the server to do without certConf."""
    disable_confirm = _Flag(lib.OSSL_CMP_OPT_DISABLE_CONFIRM)
    """Never send certConf, whatever the server grants. Against the protocol."""
    unprotected_requests = _Flag(lib.OSSL_CMP_OPT_UNPROTECTED_SEND)
    unprotected_errors = _Flag(lib.OSSL_CMP_OPT_UNPROTECTED_ERRORS)
    """Whether to believe negative answers that nobody protected."""
    owf = _Algorithm(lib.OSSL_CMP_OPT_OWF_ALGNID)
    """One-way function of the password-based MAC."""
    mac = _Algorithm(lib.OSSL_CMP_OPT_MAC_ALGNID)
    """MAC of the password-based MAC."""
    digest = _Algorithm(lib.OSSL_CMP_OPT_DIGEST_ALGNID)
    """Digest of signatures: protection and proof of possession."""
    ignore_key_usage = _Flag(lib.OSSL_CMP_OPT_IGNORE_KEYUSAGE)
    permit_anchor_in_extra_certs = _Flag(lib.OSSL_CMP_OPT_PERMIT_TA_IN_EXTRACERTS_FOR_IR)
    """3GPP: trust a self-signed certificate in the extraCerts of an IP."""
    cache_extra_certs = _Flag(lib.OSSL_CMP_OPT_NO_CACHE_EXTRACERTS, inverted=True, since="3.3")
    """Whether the peer's extraCerts stay among the untrusted certificates."""

    @property
    def popo(self) -> PopoMethod:
        """How possession of the new key is proved; ``NONE`` asks for central key generation (OpenSSL 3.5)."""
        return PopoMethod(lib.OSSL_CMP_CTX_get_option(self._ptr, lib.OSSL_CMP_OPT_POPO_METHOD))

    @popo.setter
    def popo(self, value: PopoMethod) -> None:
        check(lib.OSSL_CMP_CTX_set_option(self._ptr, lib.OSSL_CMP_OPT_POPO_METHOD, value))

    @property
    def revocation_reason(self) -> RevocationReason | None:
        """Sent with a revocation request, or None for none."""
        value = lib.OSSL_CMP_CTX_get_option(self._ptr, lib.OSSL_CMP_OPT_REVOCATION_REASON)
        return None if value < 0 else RevocationReason(value)

    @revocation_reason.setter
    def revocation_reason(self, value: RevocationReason | None) -> None:
        number = -1 if value is None else int(value)
        check(lib.OSSL_CMP_CTX_set_option(self._ptr, lib.OSSL_CMP_OPT_REVOCATION_REASON, number))

    @property
    def log_verbosity(self) -> int:
        """Of OSSL_CMP_LOG_EMERG (0) to TRACE (8); what passes goes to the logger ``opensslcmp.openssl``.

        Up to 2, the default, OpenSSL keeps its errors for our exceptions. Above, they are logged, and gathered from
        there.
        """
        return int(lib.OSSL_CMP_CTX_get_option(self._ptr, lib.OSSL_CMP_OPT_LOG_VERBOSITY))

    @log_verbosity.setter
    def log_verbosity(self, value: int) -> None:
        if not lib.OSSL_CMP_LOG_EMERG <= value <= lib.OSSL_CMP_LOG_MAX:
            raise ValueError(f"log_verbosity is 0 to {lib.OSSL_CMP_LOG_MAX}")
        check(lib.OSSL_CMP_CTX_set_option(self._ptr, lib.OSSL_CMP_OPT_LOG_VERBOSITY, value))
        self._talks = value > QUIET
        # A build with tracing keeps a pointer to this context for ever once the hook is set: set it only when asked
        # for.
        if self._talks:
            check(lib.OSSL_CMP_CTX_set_log_cb(self._ptr, lib.opensslcmp_on_log))

    # OpenSSL's own HTTP: OSSL_CMP_CTX_set1_server(3)

    server = _Value(lib.OSSL_CMP_CTX_set1_server, str.encode)
    """Host name or address."""
    server_path = _Value(lib.OSSL_CMP_CTX_set1_serverPath, str.encode)
    proxy = _Value(lib.OSSL_CMP_CTX_set1_proxy, str.encode)
    """``host:port``; the environment's ``http_proxy`` unless set, none if ``""``."""
    no_proxy = _Value(lib.OSSL_CMP_CTX_set1_no_proxy, str.encode)
    server_port = _Value(lib.OSSL_CMP_CTX_set_serverPort, int)

    def set_http_hook(self, hook: Callable[[Any, bool, int], Any] | None) -> None:
        """Let ``hook(bio, connecting, detail)`` wrap each connection of OpenSSL's own HTTP, for TLS.

        ``bio`` is a BIO of :mod:`opensslcmp._native`; the hook returns the BIO to use, or NULL to fail.

        Source: OSSL_CMP_CTX_set_http_cb(3), OSSL_HTTP_bio_cb_t in OSSL_HTTP_transfer(3).
        """
        self._http = None if hook is None else (hook, ffi.new_handle(self))
        check(lib.OSSL_CMP_CTX_set_http_cb(self._ptr, ffi.NULL if hook is None else lib.opensslcmp_on_http))
        check(lib.OSSL_CMP_CTX_set_http_cb_arg(self._ptr, ffi.NULL if self._http is None else self._http[1]))

    # Transfer and confirmation

    @property
    def transfer(self) -> Callable[[bytes], bytes] | None:
        """Sends a request and returns the answer, both DER.

        Source: OSSL_CMP_CTX_set_transfer_cb(3).
        """
        return self._transfer

    @transfer.setter
    def transfer(self, value: Callable[[bytes], bytes] | None) -> None:
        check(lib.OSSL_CMP_CTX_set_transfer_cb(self._ptr, ffi.NULL if value is None else TRANSFER))
        check(lib.OSSL_CMP_CTX_set_transfer_cb_arg(self._ptr, ffi.NULL))
        self._transfer = value

    def connect(self, server: "ServerContext") -> None:
        """Talk to ``server`` without leaving C. What its callbacks raise comes out of the client's operation.

        Source: OSSL_CMP_CTX_server_perform(3).
        """
        check(lib.OSSL_CMP_CTX_set_transfer_cb(self._ptr, SERVER_PERFORM))
        check(lib.OSSL_CMP_CTX_set_transfer_cb_arg(self._ptr, server._ptr))
        self._keep.append(server)
        server.raise_to(self)

    @property
    def confirm(self) -> Callable[[bytes], None] | None:
        """Looks at the new certificate and raises to refuse it.

        Source: OSSL_CMP_CTX_set_certConf_cb(3).
        """
        return self._confirm

    @confirm.setter
    def confirm(self, value: Callable[[bytes], None] | None) -> None:
        check(lib.OSSL_CMP_CTX_set_certConf_cb(self._ptr, DEFAULT_CERT_CONF if value is None else CERT_CONF))
        self._confirm = value

    def require_trusted_certificate(
        self, trusted: Iterable[CertificateLike], parameters: VerifyParameters | None = None
    ) -> None:
        """Accept a new certificate only if a path leads from it to one of ``trusted``.

        Source: OSSL_CMP_certConf_cb(3).
        """
        made = natives.store(trusted, parameters=parameters)
        check(lib.OSSL_CMP_CTX_set_certConf_cb(self._ptr, DEFAULT_CERT_CONF if self._confirm is None else CERT_CONF))
        check(lib.OSSL_CMP_CTX_set_certConf_cb_arg(self._ptr, made))
        self._keep.append(made)

    # How the peer is authenticated

    pinned_server = _Value(lib.OSSL_CMP_CTX_set1_srvCert, natives.certificate)
    """The only certificate to accept signatures of; then ``trust`` is not asked (OSSL_CMP_CTX_set1_srvCert(3))."""
    expected_sender = _Value(lib.OSSL_CMP_CTX_set1_expected_sender, natives.name)
    """The Name that answers must come from (OSSL_CMP_CTX_set1_expected_sender(3))."""

    def trust(
        self,
        anchors: Iterable[CertificateLike],
        *,
        crls: Iterable[bytes] = (),
        at: int | None = None,
        partial_chain: bool = False,
        parameters: VerifyParameters | None = None,
    ) -> None:
        """Trust ``anchors`` to vouch for whoever signs answers, instead of what was trusted before.

        Args:
            anchors: certificates.
            crls: CRLs in DER; with any, every certificate of a path is checked against them.
            at: the time to verify for, in seconds since the epoch, or None for now.
            partial_chain: lets a path end at any anchor, self-signed or not.
            parameters: what else paths must be like.

        Source: OSSL_CMP_CTX_set0_trustedStore(3).
        """
        made = natives.store(anchors, crls, at, partial_chain, parameters)
        check(lib.OSSL_CMP_CTX_set0_trusted(self._ptr, made))
        give(made)

    @property
    def untrusted(self) -> tuple[bytes, ...]:
        """Intermediate certificates to build paths with; peers add theirs (OSSL_CMP_CTX_set1_untrusted(3)).

        Set them before the first message: OpenSSL 3.0 would use a freed certificate afterwards.
        """
        return natives.der_of_certificates(lib.OSSL_CMP_CTX_get0_untrusted(self._ptr))

    @untrusted.setter
    def untrusted(self, value: Iterable[CertificateLike]) -> None:
        if self._exchanged:
            raise ValueError("untrusted certificates must be set before the first message")
        # Never NULL: OpenSSL 3.0 then fails every message (X509_add_certs on a NULL stack).
        check(lib.OSSL_CMP_CTX_set1_untrusted(self._ptr, natives.certificates(value)))

    # How we authenticate ourselves

    certificate = _Value(lib.OSSL_CMP_CTX_set1_cert, natives.certificate)
    """Our certificate, whose key protects requests (OSSL_CMP_CTX_set1_cert(3))."""
    reference = _Octets(lib.OSSL_CMP_CTX_set1_referenceValue)
    """Names the shared secret; sent as senderKID."""
    secret = _Octets(lib.OSSL_CMP_CTX_set1_secretValue, secret=True)
    """The shared secret; where there is one it protects, not the key."""
    recipient = _Value(lib.OSSL_CMP_CTX_set1_recipient, natives.name)

    def set_key(self, key: KeyLike | None) -> None:
        """Protect requests with this private key, which belongs to ``certificate``.

        Source: OSSL_CMP_CTX_set1_pkey(3).
        """
        check(lib.OSSL_CMP_CTX_set1_pkey(self._ptr, ffi.NULL if key is None else natives.private_key(key)))

    def build_chain(
        self,
        trusted: Iterable[CertificateLike] | None,
        candidates: Iterable[CertificateLike],
        parameters: VerifyParameters | None = None,
    ) -> None:
        """Build the chain of ``certificate`` that is sent along; verified when ``trusted`` is given.

        Source: OSSL_CMP_CTX_build_cert_chain(3).
        """
        made = ffi.NULL if trusted is None else natives.store(trusted, parameters=parameters)
        self._check(lib.OSSL_CMP_CTX_build_cert_chain(self._ptr, made, natives.certificates(candidates)))

    def set_extra_certs(self, certificates: Iterable[CertificateLike]) -> None:
        """Send these certificates along.

        Source: OSSL_CMP_CTX_set1_extraCertsOut(3).
        """
        check(lib.OSSL_CMP_CTX_set1_extraCertsOut(self._ptr, natives.certificates(certificates)))

    def add_general_info(self, info: bytes) -> None:
        """Send this InfoTypeAndValue (DER) in the header of each request.

        Source: OSSL_CMP_CTX_push0_geninfo_ITAV(3).
        """
        pointer = natives.info(info)
        check(lib.OSSL_CMP_CTX_push0_geninfo_ITAV(self._ptr, pointer))
        give(pointer)

    def clear_general_info(self) -> None:
        """Send no InfoTypeAndValue in headers any more.

        Source: OSSL_CMP_CTX_reset_geninfo_ITAVs(3).
        """
        check(lib.OSSL_CMP_CTX_reset_geninfo_ITAVs(self._ptr))

    @property
    def general_info(self) -> tuple[bytes, ...]:
        """What :meth:`add_general_info` added.

        Raises:
            Unsupported: before OpenSSL 3.3.

        Source: OSSL_CMP_CTX_get0_geninfo_ITAVs(3).
        """
        require("3.3", "general_info")
        return natives.der_of_infos(lib.OSSL_CMP_CTX_get0_geninfo_ITAVs(self._ptr))

    # What is asked for: OSSL_CMP_CTX_set1_subjectName(3)

    subject = _Value(lib.OSSL_CMP_CTX_set1_subjectName, natives.name)
    issuer = _Value(lib.OSSL_CMP_CTX_set1_issuer, natives.name)
    serial_number = _Value(lib.OSSL_CMP_CTX_set1_serialNumber, natives.serial_number, since="3.2")
    """Of the certificate to revoke, an INTEGER in DER."""
    old_certificate = _Value(lib.OSSL_CMP_CTX_set1_oldCert, natives.certificate)
    """The certificate to update or to revoke."""
    csr = _Value(lib.OSSL_CMP_CTX_set1_p10CSR, natives.request)
    """The PKCS#10 request that p10cr sends."""

    def set_new_key(self, key: KeyLike | None, *, private: bool = True) -> None:
        """Ask for a certificate for this key: a private key, or with ``private=False`` a SubjectPublicKeyInfo.

        Source: OSSL_CMP_CTX_set0_newPkey(3).
        """
        pointer = ffi.NULL
        if key is not None:
            pointer = natives.private_key(key) if private else natives.public_key(key)
            check(lib.EVP_PKEY_up_ref(pointer))
        try:
            check(lib.OSSL_CMP_CTX_set0_newPkey(self._ptr, private, pointer))
        except BaseException:
            lib.EVP_PKEY_free(pointer)
            raise

    def new_key(self) -> bytes | None:
        """The private key that belongs to the new certificate (DER): ours, or the one that the CA made (OpenSSL 3.5).

        Source: OSSL_CMP_CTX_get0_newPkey(3).
        """
        key = lib.OSSL_CMP_CTX_get0_newPkey(self._ptr, 1)
        return encode(lib.i2d_PrivateKey, key) if key else None

    def add_subject_alt_name(self, general_name: bytes) -> None:
        """Ask for this GeneralName (DER).

        Source: OSSL_CMP_CTX_push1_subjectAltName(3).
        """
        check(lib.OSSL_CMP_CTX_push1_subjectAltName(self._ptr, natives.general_name(general_name)))

    def set_request_extensions(self, extensions: bytes) -> None:
        """Ask for these Extensions (DER).

        Source: OSSL_CMP_CTX_set0_reqExtensions(3).
        """
        pointer = natives.extensions(extensions)
        check(lib.OSSL_CMP_CTX_set0_reqExtensions(self._ptr, pointer))
        give(pointer)

    @property
    def request_extensions_have_subject_alt_name(self) -> bool:
        """Source: OSSL_CMP_CTX_reqExtensions_have_SAN(3)."""
        return bool(lib.OSSL_CMP_CTX_reqExtensions_have_SAN(self._ptr) == 1)

    def add_policy(self, policy: bytes) -> None:
        """Ask for this PolicyInformation (DER).

        Source: OSSL_CMP_CTX_push0_policy(3).
        """
        pointer = natives.policy(policy)
        check(lib.OSSL_CMP_CTX_push0_policy(self._ptr, pointer))
        give(pointer)

    def add_info_request(self, info: bytes) -> None:
        """Put this InfoTypeAndValue (DER) into the genm that :meth:`request_info` sends.

        Source: OSSL_CMP_CTX_push0_genm_ITAV(3).
        """
        pointer = natives.info(info)
        check(lib.OSSL_CMP_CTX_push0_genm_ITAV(self._ptr, pointer))
        give(pointer)

    def set_transaction_id(self, value: bytes | None) -> None:
        """Use this transactionID instead of a random one.

        Source: OSSL_CMP_CTX_set1_transactionID(3).
        """
        check(lib.OSSL_CMP_CTX_set1_transactionID(self._ptr, ffi.NULL if value is None else natives.octets(value)))

    def set_sender_nonce(self, value: bytes | None) -> None:
        """Expect this nonce of ours in the next answer.

        Source: OSSL_CMP_CTX_set1_senderNonce(3).
        """
        check(lib.OSSL_CMP_CTX_set1_senderNonce(self._ptr, ffi.NULL if value is None else natives.octets(value)))

    # Operations: OSSL_CMP_exec_certreq(3)

    def setup_request(self, *, for_update: bool = False, request_id: int = 0) -> bytes:
        """CertReqMsg (DER) made of what is set here, without proof of possession.

        Source: OSSL_CMP_CTX_setup_CRM(3).
        """
        pointer = self.call(lib.OSSL_CMP_CTX_setup_CRM, self._ptr, for_update, request_id)
        self._check(pointer)
        return encode(lib.i2d_OSSL_CRMF_MSG, own(pointer, lib.OSSL_CRMF_MSG_free))

    def request_certificate(self, kind: BodyType, request: bytes | None = None) -> bytes:
        """Get a certificate, to the end: polling (OpenSSL sleeps in C, uninterruptibly) and confirmation.

        Args:
            kind: ``IR``, ``CR``, ``KUR`` or ``P10CR``.
            request: a whole CertReqMsg (DER, its proof of possession included) instead of one made of what is set here.

        Returns:
            The certificate (DER).

        Raises:
            Rejected: the server refused.
            OpenSSLError: OpenSSL did; ``ProtectionError`` when the answer's protection was the reason.

        Source: OSSL_CMP_exec_certreq(3).
        """
        pointer = self._exchange(lib.OSSL_CMP_exec_certreq, _kind(kind), _request(request))
        return encode(lib.i2d_X509, pointer)

    def try_certificate(self, kind: BodyType, request: bytes | None = None) -> int | None:
        """The same, but return instead of waiting.

        Returns:
            Seconds after which to call again, or None: the certificate is in ``new_certificate``.

        Source: OSSL_CMP_try_certreq(3).
        """
        seconds = ffi.new("int *")
        result = self._exchange(lib.OSSL_CMP_try_certreq, _kind(kind), _request(request), seconds)
        return int(seconds[0]) if result < 0 else None

    def abort(self) -> None:
        """Tell the server that we stop waiting; the transaction is over.

        Source: OSSL_CMP_try_certreq(3), with a negative type.
        """
        self.call(lib.OSSL_CMP_try_certreq, self._ptr, -1, ffi.NULL, ffi.new("int *"))
        lib.ERR_clear_error()  # "polling aborted" is an error of its own, whether or not the message left

    def revoke(self) -> None:
        """Have ``old_certificate`` (or ``issuer`` and ``serial_number``, or ``csr``) revoked.

        Raises:
            Rejected: the server refused.

        Source: OSSL_CMP_exec_RR_ses(3).
        """
        self._nameless = self.csr is not None and self.old_certificate is None and self.serial_number is None
        if self._nameless and self._transfer is None:
            raise ValueError("revocation by csr needs a transfer, which keeps dangerous answers out")
        try:
            self._exchange(lib.OSSL_CMP_exec_RR_ses)
        finally:
            self._nameless = False

    def request_info(self) -> tuple[bytes, ...]:
        """Send what :meth:`add_info_request` gathered and return the answer's InfoTypeAndValue, each in DER.

        Source: OSSL_CMP_exec_GENM_ses(3).
        """
        stack = own(
            self._exchange(lib.OSSL_CMP_exec_GENM_ses, free=lib.opensslcmp_itavs_free), lib.opensslcmp_itavs_free
        )
        return natives.der_of_infos(stack)

    def get_ca_certificates(self) -> tuple[bytes, ...]:
        """CA certificates that the server distributes (genm caCerts).

        Raises:
            Unsupported: before OpenSSL 3.2.

        Source: OSSL_CMP_get1_caCerts(3).
        """
        require("3.2", "get_ca_certificates")
        out = ffi.new("struct stack_st_X509 **")
        self._exchange(lib.OSSL_CMP_get1_caCerts, out)
        if not out[0]:
            return ()
        return natives.der_of_certificates(own(out[0], lib.opensslcmp_certificates_free))

    def get_root_ca_update(self, old_root: CertificateLike) -> tuple[bytes | None, bytes | None, bytes | None]:
        """The new root and its cross certificates: (newWithNew, newWithOld, oldWithNew), all None if there is no
        update.

        Raises:
            Unsupported: before OpenSSL 3.5.7, 3.6.3 and 4.0.1, which accept a root of anybody's (CVE-2026-42769).

        Source: OSSL_CMP_get1_rootCaKeyUpdate(3).
        """
        require("3.2", "get_root_ca_update")
        if _version() < {(3, 6): (3, 6, 3), (4, 0): (4, 0, 1)}.get(_version()[:2], (3, 5, 7)):
            raise Unsupported("get_root_ca_update (CVE-2026-42769)", "3.5.7")
        out = [ffi.new("X509 **") for _ in range(3)]
        # It leaves *newWithNew dangling when it fails: nothing of ``out`` is looked at then.
        self._exchange(lib.OSSL_CMP_get1_rootCaKeyUpdate, natives.certificate(old_root), *out)
        owned = [own(pointer[0], lib.X509_free) if pointer[0] else None for pointer in out]
        first, second, third = (None if pointer is None else encode(lib.i2d_X509, pointer) for pointer in owned)
        return first, second, third

    def get_crl_update(self, certificate: CertificateLike | None = None, last: bytes | None = None) -> bytes | None:
        """A CRL (DER) newer than ``last``, or the one that covers ``certificate``; None if there is none.

        Raises:
            Unsupported: before OpenSSL 3.4.

        Source: OSSL_CMP_get1_crlUpdate(3).
        """
        require("3.4", "get_crl_update")
        given = ffi.NULL if certificate is None else natives.certificate(certificate)
        old = ffi.NULL if last is None else decode(lib.d2i_X509_CRL, lib.X509_CRL_free, last)
        out = ffi.new("X509_CRL **")
        self._exchange(lib.OSSL_CMP_get1_crlUpdate, given, old, out)
        return encode(lib.i2d_X509_CRL, own(out[0], lib.X509_CRL_free)) if out[0] else None

    def get_certificate_request_template(self) -> tuple[bytes | None, bytes | None]:
        """What the server wants in requests: CertTemplate and Controls of key specifications, both DER or None.

        Raises:
            Unsupported: before OpenSSL 3.4.

        Source: OSSL_CMP_get1_certReqTemplate(3).
        """
        require("3.4", "get_certificate_request_template")
        template, keys = ffi.new("OSSL_CRMF_CERTTEMPLATE **"), ffi.new("OSSL_CMP_ATAVS **")
        self._exchange(lib.OSSL_CMP_get1_certReqTemplate, template, keys)
        made = own(template[0], lib.OSSL_CRMF_CERTTEMPLATE_free) if template[0] else None
        specified = own(keys[0], lib.OSSL_CMP_ATAVS_free) if keys[0] else None
        return (
            None if made is None else encode(lib.i2d_OSSL_CRMF_CERTTEMPLATE, made),
            None if specified is None else encode(lib.i2d_OSSL_CMP_ATAVS, specified),
        )

    def validate_path(self, certificate: CertificateLike, trusted: Iterable[CertificateLike]) -> None:
        """Check that a path leads from ``certificate`` over the untrusted certificates to one of ``trusted``.

        Raises:
            ProtectionError: none does.

        Source: OSSL_CMP_validate_cert_path(3).
        """
        made = natives.store(trusted)
        if self.call(lib.OSSL_CMP_validate_cert_path, self._ptr, made, natives.certificate(certificate)) != 1:
            raise ProtectionError("no path to a trusted certificate", FailureInfo.SIGNER_NOT_TRUSTED, self._queue())

    # Results: OSSL_CMP_CTX_get_status(3)

    @property
    def raw_status(self) -> int:
        """PKIStatus of the last answer, or OpenSSL's own: -1 nothing yet, -2 no answer, -3 not sent, -4 answer being
        checked, -5 refused by us."""
        return int(lib.OSSL_CMP_CTX_get_status(self._ptr))

    @property
    def status(self) -> PKIStatus | None:
        """PKIStatus of the last answer, or None: it has not come, or not been believed."""
        return PKIStatus(self.raw_status) if self.raw_status >= 0 else None

    @property
    def failures(self) -> tuple[FailureInfo, ...]:
        """The failInfo bits of the last answer."""
        return _bits(lib.OSSL_CMP_CTX_get_failInfoCode(self._ptr))

    @property
    def status_text(self) -> tuple[str, ...]:
        """The statusString of the last answer."""
        return natives.texts(lib.OSSL_CMP_CTX_get0_statusString(self._ptr))

    @property
    def status_line(self) -> str:
        """Status, failInfo and text of the last answer in OpenSSL's words (OSSL_CMP_CTX_snprint_PKIStatus(3))."""
        buffer = ffi.new("char[]", lib.OSSL_CMP_PKISI_BUFLEN)
        if not lib.OSSL_CMP_CTX_snprint_PKIStatus(self._ptr, buffer, lib.OSSL_CMP_PKISI_BUFLEN):
            lib.ERR_clear_error()
            return ""
        return str(ffi.string(buffer).decode("utf-8", "replace"))

    @property
    def new_certificate(self) -> bytes | None:
        """The certificate that the last answer brought, accepted or not."""
        certificate = lib.OSSL_CMP_CTX_get0_newCert(self._ptr)
        return encode(lib.i2d_X509, certificate) if certificate else None

    @property
    def new_chain(self) -> tuple[bytes, ...]:
        """The chain of ``new_certificate``, as far as it could be built, its issuer first."""
        return self._certificates(lib.OSSL_CMP_CTX_get1_newChain)

    @property
    def ca_certificates(self) -> tuple[bytes, ...]:
        """The caPubs of the last answer. Trust them only if a shared secret protected it."""
        return self._certificates(lib.OSSL_CMP_CTX_get1_caPubs)

    @property
    def extra_certs(self) -> tuple[bytes, ...]:
        """The extraCerts of the last answer."""
        return self._certificates(lib.OSSL_CMP_CTX_get1_extraCertsIn)

    @property
    def validated_server(self) -> bytes | None:
        """The certificate that signed the last answer, or None: a MAC did.

        Raises:
            Unsupported: before OpenSSL 3.2.
        """
        require("3.2", "validated_server")
        certificate = lib.OSSL_CMP_CTX_get0_validatedSrvCert(self._ptr)
        return encode(lib.i2d_X509, certificate) if certificate else None

    # Inside

    def _expected_sender(self) -> bytes | None:
        if self.pinned_server is None:
            expected = self.expected_sender
            return (
                expected
                if expected is None or isinstance(expected, bytes)
                else encode(lib.i2d_X509_NAME, expected._ptr)
            )
        pinned = natives.certificate(self.pinned_server)
        return encode(lib.i2d_X509_NAME, lib.X509_get_subject_name(pinned))

    def _certificates(self, getter: Any) -> tuple[bytes, ...]:
        stack = getter(self._ptr)
        if not stack:
            lib.ERR_clear_error()
            return ()
        return natives.der_of_certificates(own(stack, lib.opensslcmp_certificates_free))

    def _exchange(self, function: Any, *args: Any, free: Any = None) -> Any:
        self._exchanged = True
        try:
            result = self.call(function, self._ptr, *args, free=free)
        finally:
            self._answer = None
        self._check(result)
        lib.ERR_clear_error()
        return result

    def call(self, function: Callable[..., Any], *args: Any, free: Any = None) -> Any:
        """Call C, gathering what it logs on the way."""
        self._lines.clear()
        if not self._talks:
            return super().call(function, *args, free=free)
        token = _logging.set(self)
        try:
            return super().call(function, *args, free=free)
        finally:
            _logging.reset(token)

    def _queue(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines + drain()

    def _check(self, result: Any) -> None:
        """Raise, unless ``result`` is true, what is to blame: the peer, or else OpenSSL."""
        if not result:
            raise self._failure()

    def _failure(self) -> CMPError:
        queue = self._queue()
        status = self.status
        # 3.0 notes its own refusal of a new certificate as if the peer had said no (cmp_client.c, cert_response).
        ours = any("certificate not accepted" in entry for entry in queue)
        if status is PKIStatus.REJECTION and not ours:
            bits = self.failures
            rejected = Rejected(bits[0] if bits else None, *self.status_text, status=status, failures=bits)
            rejected.__cause__ = OpenSSLError(queue) if queue else None
            return rejected
        for entry in queue:
            for words, failure in PROTECTION:
                if words in entry:
                    return ProtectionError("the answer was not believed", failure, queue)
        return OpenSSLError(queue)


PROTECTION = (
    ("error validating protection", FailureInfo.BAD_MESSAGE_CHECK),
    ("error validating signature", FailureInfo.BAD_MESSAGE_CHECK),
    ("wrong pbm value", FailureInfo.BAD_MESSAGE_CHECK),
    ("missing protection", FailureInfo.BAD_MESSAGE_CHECK),
    ("no suitable sender cert", FailureInfo.SIGNER_NOT_TRUSTED),
    ("potentially invalid certificate", FailureInfo.SIGNER_NOT_TRUSTED),
    ("srvcert does not validate msg", FailureInfo.SIGNER_NOT_TRUSTED),
)
"""Reasons of OpenSSL's that blame the protection of an answer (cmperr.h has no constants for some on 3.0)."""

TRANSFER = ffi.addressof(lib, "opensslcmp_transfer")
CERT_CONF = ffi.addressof(lib, "opensslcmp_cert_conf")
DEFAULT_CERT_CONF = ffi.addressof(lib, "OSSL_CMP_certConf_cb")
SERVER_PERFORM = ffi.addressof(lib, "OSSL_CMP_CTX_server_perform")


def can_have_key_generated() -> bool:
    """Whether a CA may make the key: ``popo`` ``NONE`` asks for it since OpenSSL 3.5, and is no proof at all before."""
    return has("3.5")


def _version() -> tuple[int, int, int]:
    number = lib.OpenSSL_version_num()
    return number >> 28, number >> 20 & 0xFF, number >> 4 & 0xFFFF


def _kind(kind: BodyType) -> int:
    if kind not in {BodyType.IR, BodyType.CR, BodyType.KUR, BodyType.P10CR}:
        raise ValueError("kind is IR, CR, KUR or P10CR")
    return int(kind)


def _request(request: bytes | None) -> Any:
    return ffi.NULL if request is None else decode(lib.d2i_OSSL_CRMF_MSG, lib.OSSL_CRMF_MSG_free, request)


def _bits(mask: int) -> tuple[FailureInfo, ...]:
    return tuple(bit for bit in FailureInfo if mask > 0 and mask >> bit & 1)


@callback(on_failure=-1)
def _on_transfer(context: ClientContext, request: Any, length: int, answer: Any) -> int:
    answer[0] = ffi.NULL
    assert context._transfer is not None
    # Why OpenSSL tells the peer that it gives up: a transfer that calls OpenSSL itself empties the queue.
    context._lines += drain()
    reply = context._transfer(ffi.buffer(request, length)[:])
    context._answer = bytes(memoryview(reply))  # C reads it after we have returned
    if context._guarded or context._nameless:
        message = admit(context._answer)
        refuse_dangerous(message, expected_sender=context._expected_sender())
        if context._nameless and message.body_type is BodyType.RP and message.content().rev_certs:
            # CVE-2026-75805: OpenSSL before 4.0.3 follows a NULL pointer.
            raise BadMessage(FailureInfo.BAD_CERT_ID, "the answer names certificates, which the request did not")
    answer[0] = ffi.from_buffer("const unsigned char[]", context._answer)
    return len(context._answer)


@callback(on_failure=1 << FailureInfo.SYSTEM_FAILURE)
def _on_cert_conf(context: ClientContext, certificate: Any, length: int, text: Any) -> int:
    text[0] = ffi.NULL
    assert context._confirm is not None
    try:
        context._confirm(ffi.buffer(certificate, length)[:])
    except Rejected as refusal:
        context.keep(refusal)
        context._text = ffi.new("char[]", "; ".join(refusal.text).encode())  # C keeps the pointer
        text[0] = context._text
        return sum(1 << bit for bit in refusal.failures) or 1 << FailureInfo.INCORRECT_DATA
    return 0


@callback(on_failure=ffi.NULL, caller_of=lambda _bio, argument, *_rest: ffi.from_handle(argument))
def _on_http(context: ClientContext, bio: Any, _argument: Any, connecting: int, detail: int) -> Any:
    assert context._http is not None
    return context._http[0](bio, bool(connecting), detail)


@ffi.def_extern(name="opensslcmp_on_log", error=0)  # type: ignore[untyped-decorator]
def _on_log(_function: Any, _file: Any, _line: int, level: int, message: Any) -> int:
    # OSSL_CMP_log_cb_t has no argument of ours: the context is the one whose call this thread of execution is in.
    text = ffi.string(message).decode("utf-8", "replace").strip()
    context = _logging.get()
    if context is not None and level <= lib.OSSL_CMP_LOG_ERR:
        context._lines.append(text)
    logger.log(LEVELS[min(max(level, 0), len(LEVELS) - 1)], "%s", text)
    return 1
