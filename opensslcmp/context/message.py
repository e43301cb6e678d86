"""OSSL_CMP_MSG as a Python object: libcrypto's own decoder, protection and verification of messages.

:mod:`opensslcmp.context.protection` is what the package uses. This is libcrypto's view of a message, to compare with;
it decodes in C, so what comes from a peer passes :mod:`opensslcmp.asn1.gate` first.
"""

from typing import Any

from opensslcmp._native import ffi, lib
from opensslcmp._native.levels import require
from opensslcmp._native.memory import decode, encode, own
from opensslcmp._native.queue import drain
from opensslcmp.context import natives
from opensslcmp.context.client import ClientContext
from opensslcmp.enums import BodyType
from opensslcmp.errors import OpenSSLError, ProtectionError

__all__ = ["NativeMessage"]


class NativeMessage:
    """One PKIMessage, decoded by libcrypto.

    Raises:
        OpenSSLError: ``der`` is not exactly one message.

    Source: d2i_OSSL_CMP_MSG(3).
    """

    def __init__(self, der: bytes) -> None:
        self._ptr: Any = decode(lib.d2i_OSSL_CMP_MSG, lib.OSSL_CMP_MSG_free, der)

    def encode(self) -> bytes:
        """DER of the message (i2d_OSSL_CMP_MSG(3))."""
        return encode(lib.i2d_OSSL_CMP_MSG, self._ptr)

    def copy(self) -> "NativeMessage":
        """Another message with the same content (OSSL_CMP_MSG_dup(3))."""
        made = NativeMessage.__new__(NativeMessage)
        made._ptr = own(lib.OSSL_CMP_MSG_dup(self._ptr), lib.OSSL_CMP_MSG_free)
        return made

    @property
    def body_type(self) -> BodyType:
        """Source: OSSL_CMP_MSG_get_bodytype(3)."""
        return BodyType(lib.OSSL_CMP_MSG_get_bodytype(self._ptr))

    @property
    def transaction_id(self) -> bytes | None:
        """Source: OSSL_CMP_HDR_get0_transactionID(3)."""
        return self._header(lib.OSSL_CMP_HDR_get0_transactionID)

    @property
    def recip_nonce(self) -> bytes | None:
        """Source: OSSL_CMP_HDR_get0_recipNonce(3)."""
        return self._header(lib.OSSL_CMP_HDR_get0_recipNonce)

    @property
    def general_info(self) -> tuple[bytes, ...]:
        """The header's InfoTypeAndValues, each in DER.

        Raises:
            Unsupported: before OpenSSL 3.3.

        Source: OSSL_CMP_HDR_get0_geninfo_ITAVs(3).
        """
        require("3.3", "general_info")
        return natives.der_of_infos(lib.OSSL_CMP_HDR_get0_geninfo_ITAVs(lib.OSSL_CMP_MSG_get0_header(self._ptr)))

    @property
    def public_key(self) -> bytes | None:
        """The SubjectPublicKeyInfo that a certificate is asked for, or None.

        Raises:
            Unsupported: before OpenSSL 3.3.

        Source: OSSL_CMP_MSG_get0_certreq_publickey(3).
        """
        require("3.3", "public_key")
        key = lib.OSSL_CMP_MSG_get0_certreq_publickey(self._ptr)
        lib.ERR_clear_error()  # a message of another kind is an error to OpenSSL
        return encode(lib.i2d_X509_PUBKEY, key) if key else None

    def update_transaction_id(self, context: ClientContext, transaction_id: bytes | None = None) -> None:
        """Give the message ``transaction_id``, or a random one, and protect it anew with the credentials of
        ``context``.

        This protects a message of any body type, provided that it has a protectionAlg, any will do: that is replaced,
        and so are protection and senderKID; extraCerts grow by the signer's chain; all else stays.

        Raises:
            OpenSSLError: ``context`` has no usable credentials.

        Source: OSSL_CMP_MSG_update_transactionID(3).
        """
        if transaction_id is not None:
            context.set_transaction_id(transaction_id)
        if not _again(context, lib.OSSL_CMP_MSG_update_transactionID, self._ptr):
            raise OpenSSLError(drain())
        lib.ERR_clear_error()

    def update_recip_nonce(self, context: ClientContext) -> None:
        """Give the message the recipNonce that ``context`` is due, and protect it anew.

        Raises:
            OpenSSLError: ``context`` has no usable credentials.

        Source: OSSL_CMP_MSG_update_recipNonce(3).
        """
        if not _again(context, lib.OSSL_CMP_MSG_update_recipNonce, self._ptr):
            raise OpenSSLError(drain())
        lib.ERR_clear_error()

    def validate(self, context: ClientContext) -> None:
        """Verify the protection with the secret, or the trust, of ``context``.

        OpenSSL adds the caPubs of a MAC-protected ip, cp or kup to the trust of ``context``: use a fresh one.

        Raises:
            ProtectionError: it does not verify, or there is none.

        Source: OSSL_CMP_validate_msg(3).
        """
        if not context.call(lib.OSSL_CMP_validate_msg, context._ptr, self._ptr):
            raise ProtectionError("OpenSSL does not believe the message", queue=context._queue())
        lib.ERR_clear_error()

    def _header(self, getter: Any) -> bytes | None:
        value = getter(lib.OSSL_CMP_MSG_get0_header(self._ptr))
        return natives.string(value) if value != ffi.NULL else None


def _again(context: ClientContext, function: Any, message: Any) -> Any:
    """Have a message protected anew; also from inside ``transfer``, where C is at work on the context and means it."""
    if context._busy:
        return function(context._ptr, message)
    return context.call(function, context._ptr, message)
