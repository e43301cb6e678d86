"""DER to libcrypto's objects and back, for the classes of this layer.

Setters take DER ``bytes``, or an object that owns the C object already as ``_ptr`` (:class:`NativeCertificate`,
:class:`NativeName`, :class:`opensslcmp.context.keys.PrivateKey`), which saves decoding it again for each context:
loading a key costs 100 to 600 µs on OpenSSL 3.0. Such objects may be shared between threads.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from opensslcmp._native import ffi, lib
from opensslcmp._native.memory import decode, encode, give, own
from opensslcmp._native.queue import check
from opensslcmp.context.verification import VerifyParameters

__all__ = [
    "CertificateLike",
    "KeyLike",
    "NameLike",
    "Native",
    "NativeCertificate",
    "NativeName",
    "certificate",
    "certificates",
    "der_of_certificates",
    "der_of_infos",
    "extensions",
    "general_name",
    "info",
    "infos",
    "name",
    "octets",
    "policy",
    "private_key",
    "public_key",
    "request",
    "serial_number",
    "store",
    "string",
    "texts",
]


class Native(Protocol):
    """Owns a C object."""

    @property
    def _ptr(self) -> Any: ...


class NativeCertificate:
    """An X509, decoded once and good for any number of contexts and threads.

    Raises:
        OpenSSLError: not one certificate in DER.

    Source: d2i_X509(3).
    """

    def __init__(self, der: bytes) -> None:
        self.der = bytes(der)
        self._ptr = decode(lib.d2i_X509, lib.X509_free, self.der)
        # Fills the cache of extensions before another thread can see the object (CVE-2026-84783).
        lib.X509_check_purpose(self._ptr, -1, 0)


class NativeName:
    """An X509_NAME, decoded once.

    Raises:
        OpenSSLError: not one Name in DER.

    Source: d2i_X509_NAME(3).
    """

    def __init__(self, der: bytes) -> None:
        self.der = bytes(der)
        self._ptr = decode(lib.d2i_X509_NAME, lib.X509_NAME_free, self.der)


CertificateLike: TypeAlias = bytes | Native
NameLike: TypeAlias = bytes | Native
KeyLike: TypeAlias = bytes | Native


def _reader(d2i: Any, free: Any) -> Callable[[bytes | Native], Any]:
    def read(value: bytes | Native) -> Any:
        """An owned pointer made of DER, or the one that ``value`` owns."""
        return decode(d2i, free, value) if isinstance(value, bytes) else value._ptr

    return read


certificate = _reader(lib.d2i_X509, lib.X509_free)
name = _reader(lib.d2i_X509_NAME, lib.X509_NAME_free)
private_key = _reader(lib.d2i_AutoPrivateKey, lib.EVP_PKEY_free)
public_key = _reader(lib.d2i_PUBKEY, lib.EVP_PKEY_free)
request = _reader(lib.d2i_X509_REQ, lib.X509_REQ_free)
serial_number = _reader(lib.d2i_ASN1_INTEGER, lib.ASN1_INTEGER_free)
general_name = _reader(lib.d2i_GENERAL_NAME, lib.GENERAL_NAME_free)
extensions = _reader(lib.d2i_X509_EXTENSIONS, lib.opensslcmp_extensions_free)
policy = _reader(lib.d2i_POLICYINFO, lib.POLICYINFO_free)
info = _reader(lib.opensslcmp_itav_d2i, lib.OSSL_CMP_ITAV_free)


def octets(value: bytes) -> Any:
    """An owned ASN1_OCTET_STRING."""
    string = own(lib.ASN1_OCTET_STRING_new(), lib.ASN1_OCTET_STRING_free)
    check(lib.ASN1_OCTET_STRING_set(string, value, len(value)))
    return string


def certificates(values: Iterable[CertificateLike]) -> Any:
    """An owned STACK_OF(X509)."""
    values = list(values)
    ders = [value for value in values if isinstance(value, bytes)]
    if len(ders) == len(values):
        joined = b"".join(ders)
        return own(lib.opensslcmp_certificates_d2i(joined, len(joined)), lib.opensslcmp_certificates_free)
    stack = own(lib.sk_X509_new_null(), lib.opensslcmp_certificates_free)
    for value in values:
        pointer = certificate(value)
        check(lib.X509_up_ref(pointer))
        check(lib.sk_X509_push(stack, pointer))
    return stack


def der_of_certificates(stack: Any) -> tuple[bytes, ...]:
    """DER of each certificate of a STACK_OF(X509), none for NULL."""
    if not stack:
        return ()
    out = ffi.new("unsigned char **")
    length = lib.opensslcmp_certificates_i2d(stack, out)
    check(length >= 0)
    try:
        return tuple(_split(bytes(ffi.buffer(out[0], length))))
    finally:
        lib.opensslcmp_free(out[0])


def _split(der: bytes) -> Iterable[bytes]:
    while der:
        end = 2 + der[1]
        if der[1] & 0x80:
            body = 2 + (der[1] & 0x7F)
            end = body + int.from_bytes(der[2:body], "big")
        yield der[:end]
        der = der[end:]


def store(
    trusted: Iterable[CertificateLike],
    crls: Iterable[bytes] = (),
    at: int | None = None,
    partial_chain: bool = False,
    parameters: VerifyParameters | None = None,
) -> Any:
    """An owned X509_STORE of its own, which nobody else will see change.

    Args:
        trusted: trust anchors.
        crls: CRLs in DER; with any, every certificate of a path is checked against them.
        at: the time to verify for, in seconds since the epoch, or None for now.
        partial_chain: lets a path end at any trusted certificate, self-signed or not.
        parameters: what else paths must be like.
    """
    made = own(lib.X509_STORE_new(), lib.X509_STORE_free)
    check(lib.opensslcmp_store_add(made, certificates(trusted)))
    flags = lib.X509_V_FLAG_PARTIAL_CHAIN if partial_chain else 0
    for crl in crls:
        check(lib.X509_STORE_add_crl(made, decode(lib.d2i_X509_CRL, lib.X509_CRL_free, crl)))
        flags |= lib.X509_V_FLAG_CRL_CHECK | lib.X509_V_FLAG_CRL_CHECK_ALL
    check(lib.X509_STORE_set_flags(made, flags))
    if at is not None:
        lib.X509_VERIFY_PARAM_set_time(lib.X509_STORE_get0_param(made), at)
    if parameters is not None:
        check(lib.X509_STORE_set1_param(made, parameters.native()))
    return made


def string(value: Any) -> bytes:
    """The content of an ASN1_STRING."""
    return bytes(ffi.buffer(lib.ASN1_STRING_get0_data(value), lib.ASN1_STRING_length(value)))


def texts(stack: Any) -> tuple[str, ...]:
    """The items of a STACK_OF(ASN1_UTF8STRING), none for NULL."""
    raw = ffi.cast("OPENSSL_STACK *", stack)
    return tuple(
        string(ffi.cast("ASN1_STRING *", lib.OPENSSL_sk_value(raw, index))).decode("utf-8", "replace")
        for index in range(lib.OPENSSL_sk_num(raw))
    )


def infos(values: Iterable[bytes], out: Any) -> None:
    """Write an owned STACK_OF(OSSL_CMP_ITAV) of InfoTypeAndValue in DER to ``out``, NULL for none."""
    out[0] = ffi.NULL
    pointers = [info(value) for value in values]
    for pointer in pointers:
        check(lib.OSSL_CMP_ITAV_push0_stack_item(out, pointer))
        give(pointer)


def der_of_infos(stack: Any) -> tuple[bytes, ...]:
    """DER of each InfoTypeAndValue of a STACK_OF(OSSL_CMP_ITAV), none for NULL."""
    raw = ffi.cast("OPENSSL_STACK *", stack)
    return tuple(
        encode(lib.opensslcmp_itav_i2d, ffi.cast("OSSL_CMP_ITAV *", lib.OPENSSL_sk_value(raw, index)))
        for index in range(lib.OPENSSL_sk_num(raw))
    )
