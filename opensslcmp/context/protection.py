"""Protecting any PKIMessage, and verifying any: over the bytes of header and body as they stand.

``protect`` puts protectionAlg and senderKID into a header, encodes header and body once, and makes one crossing for the
MAC or the signature. ``verify`` takes what the gate let through, and answers who made it. Neither goes through
libcrypto's CMP code, so every body type, EdDSA and PBMAC1 work on every OpenSSL, and its decoder sees nothing of a peer.

Order of ``verify``: form, then bounds, then the arithmetic, then who it was. A MAC under an unknown reference is computed
with a secret that nobody knows, and fails like a wrong one: the same error, after the same work.

Source: RFC 9810, 5.1.3; RFC 9483, 3.2 and 3.5; RFC 9481.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Protocol, TypeAlias

from cryptography import x509

from opensslcmp._native import ffi, lib
from opensslcmp._native.queue import check, drain
from opensslcmp.asn1 import (
    NULL_DN,
    AlgorithmIdentifier,
    Limits,
    Message,
    Null,
    PBKDF2Params,
    PBMAC1Params,
    PBMParameter,
    PKIHeader,
    PKMACValue,
    admit,
    algorithm,
    bits,
    decode,
    der,
    elements,
    initializer,
    oids,
    read_header,
    unwrap,
    wrap,
)
from opensslcmp.context.certificates import Trust, facts, load_certificates, same_name
from opensslcmp.context.keys import (
    DEFAULT_KEY_BOUNDS,
    KeyBounds,
    PrivateKey,
    password_of,
    signature_algorithm,
    verify_signature,
)
from opensslcmp.context.library import Library, native
from opensslcmp.credentials import Credential, KemCredential, MacParameters, SharedSecret, Signer
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import ProtectionError

__all__ = [
    "KemVerifier",
    "MacLimits",
    "MacProtector",
    "ProtectionKind",
    "Protector",
    "SecretSource",
    "SignatureProtector",
    "Verified",
    "fresh_bytes",
    "protect",
    "protect_message",
    "protector_for",
    "verify",
    "verify_public_key_mac",
]

_MESSAGE_CHECK = FailureInfo.BAD_MESSAGE_CHECK
_NULL = b"\x05\x00"


class ProtectionKind(Enum):
    """How a message is protected."""

    NONE = "none"
    MAC = "mac"
    SIGNATURE = "signature"
    KEM = "kem"
    """A MAC under a secret that was encapsulated to the sender's certificate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MacLimits:
    """What a MAC may look like before we compute it: the dearest one that passes costs a millisecond where the processor has
    instructions for SHA-2, and four where not (``python -m benchmarks.dearest``).

    Attributes:
        min_iterations, max_iterations: of PasswordBasedMac with SHA-1, SHA-224 or SHA-256. Dearer hashes may be applied
            as often as costs the same: a third for SHA-384 and SHA-512, a quarter for SHA-3.
        max_pbkdf2_iterations: of PBMAC1, likewise; half for SHA-384 and SHA-512; in all, where a key is longer than the hash.
        min_salt_bytes, max_salt_bytes: of the salt.
        digests: hashes that may turn a secret into a key, and that HMAC may use.
    """

    min_iterations: int = 1
    max_iterations: int = 10_000
    max_pbkdf2_iterations: int = 4_000
    min_salt_bytes: int = 8
    max_salt_bytes: int = 128
    digests: frozenset[str] = frozenset(
        ("SHA1", "SHA224", "SHA256", "SHA384", "SHA512", "SHA3-224", "SHA3-256", "SHA3-384", "SHA3-512")
    )


_DEFAULT_LIMITS = MacLimits()
# The sender chooses keyLength of PBMAC1: a key of one byte would be guessed by anyone (RFC 9579).
_MIN_KEY_BYTES = 20
# Measured on OpenSSL 3.0: PasswordBasedMac costs 0.09 µs an iteration with SHA-256, PBKDF2 0.24 µs.
_DEARER = {
    "pbm": {"SHA384": 3, "SHA512": 3, "SHA3-224": 4, "SHA3-256": 4, "SHA3-384": 4, "SHA3-512": 4},
    "pbmac1": {"SHA384": 2, "SHA512": 2, "SHA3-224": 4, "SHA3-256": 4, "SHA3-384": 4, "SHA3-512": 4},
}

KemVerifier: TypeAlias = "Callable[[Message], Verified]"
"""Who protected a message with a KEM-based MAC; raises ProtectionError."""

SecretSource: TypeAlias = Callable[[bytes], SharedSecret | bytes | None]
"""Asked with a reference (senderKID), answers with its secret or None."""

_OWFS = {
    "SHA1": "1.3.14.3.2.26",
    "SHA224": "2.16.840.1.101.3.4.2.4",
    "SHA256": "2.16.840.1.101.3.4.2.1",
    "SHA384": "2.16.840.1.101.3.4.2.2",
    "SHA512": "2.16.840.1.101.3.4.2.3",
    "SHA3-224": "2.16.840.1.101.3.4.2.7",
    "SHA3-256": "2.16.840.1.101.3.4.2.8",
    "SHA3-384": "2.16.840.1.101.3.4.2.9",
    "SHA3-512": "2.16.840.1.101.3.4.2.10",
}
# name -> OID and hash; HMAC-SHA-1 has two OIDs (RFC 4210, D.2 and RFC 8018, B.1.2), and an answer uses the request's.
_MACS = {
    "hmac-sha1": ("1.3.6.1.5.5.8.1.2", "SHA1"),
    "hmacWithSHA1": ("1.2.840.113549.2.7", "SHA1"),
    "hmac-sha224": ("1.2.840.113549.2.8", "SHA224"),
    "hmac-sha256": ("1.2.840.113549.2.9", "SHA256"),
    "hmac-sha384": ("1.2.840.113549.2.10", "SHA384"),
    "hmac-sha512": ("1.2.840.113549.2.11", "SHA512"),
    "hmac-sha3-224": ("2.16.840.1.101.3.4.2.13", "SHA3-224"),
    "hmac-sha3-256": ("2.16.840.1.101.3.4.2.14", "SHA3-256"),
    "hmac-sha3-384": ("2.16.840.1.101.3.4.2.15", "SHA3-384"),
    "hmac-sha3-512": ("2.16.840.1.101.3.4.2.16", "SHA3-512"),
}
_SIZES = {"SHA1": 20, "SHA224": 28, "SHA256": 32, "SHA384": 48, "SHA512": 64}
_SIZES |= {f"SHA3-{size}": size // 8 for size in (224, 256, 384, 512)}
_MAC_TEXTS = {name: (digest.encode(), _SIZES[digest]) for name, (_, digest) in _MACS.items()}
_OWF_NAMES = {oid: name for name, oid in _OWFS.items()}
_MAC_NAMES = {oid: name for name, (oid, _) in _MACS.items()}


def _plain(identifier: AlgorithmIdentifier) -> str | None:
    """The OID of an AlgorithmIdentifier whose parameters are absent or NULL."""
    parameters = identifier.parameters
    if parameters is None or isinstance(parameters, Null):
        return identifier.oid
    return identifier.oid if parameters.tag_bytes == b"\x05" and not parameters.data.nbytes else None


# -- random bytes --------------------------------------------------------------------------------------------------

_POOL_BYTES = 4096
_pool = b""
_pool_at = 0
_pool_lock = threading.Lock()


def fresh_bytes(length: int, library: Library | None = None) -> bytes:
    """Random bytes for nonces, salts and identifiers, which are sent in the clear: not for keys.

    Args:
        library: whose generator makes them, by default the operating system's.

    The latter are taken from a pool, because each call of ``os.urandom`` may wait for the GIL. A forked child starts a
    pool of its own.
    """
    global _pool, _pool_at  # noqa: PLW0603 -- one pool for the process
    if library is not None:
        return library.random(length)
    if length > _POOL_BYTES // 4:
        return os.urandom(length)
    with _pool_lock:
        if _pool_at + length > len(_pool):
            _pool = os.urandom(_POOL_BYTES)
            _pool_at = 0
        start = _pool_at
        _pool_at += length
        return _pool[start : start + length]


def _drop_pool() -> None:
    global _pool, _pool_lock, _keys_lock  # noqa: PLW0603 -- as above
    _pool = b""
    _pool_lock = threading.Lock()
    _keys_lock = threading.Lock()


os.register_at_fork(after_in_child=_drop_pool)


# -- MACs ----------------------------------------------------------------------------------------------------------


# Keys derived for MACs that were made here or verified: the messages of a transaction share one (RFC 9810, 5.1.3.1), and
# each derivation of 500 iterations costs 45 µs. What did not verify leaves nothing here, so nobody can tell who is known.
_KEYS_KEPT = 256
_keys: dict[tuple[int, bytes, bytes, str, int, int | None], bytes] = {}
_keys_lock = threading.Lock()


def _mac(
    parameters: MacParameters,
    salt: bytes,
    secret: bytes,
    data: bytes,
    expected: bytes | None = None,
    library: Library | None = None,
) -> tuple[int, bytes]:
    """One crossing: the MAC, or with ``expected`` whether it is the same (1 or 0)."""
    digest, default_size = _MAC_TEXTS[parameters.mac]
    size = None if parameters.scheme == "pbm" else parameters.key_length or default_size
    identity = (0 if library is None else library.number, secret, salt, parameters.owf, parameters.iterations, size)
    known = _keys.get(identity)
    if known is not None:
        return _mac_with(known, digest, data, expected, library)
    # One allocation for the MAC (64 bytes) and the key (64 more).
    out = ffi.new("unsigned char[128]")
    lengths = ffi.new("size_t[2]")
    tail = (
        salt,
        len(salt),
        secret,
        len(secret),
        data,
        len(data),
        out,
        lengths,
        ffi.NULL if expected is None else expected,
        len(expected or b""),
        out + 64,
        lengths + 1,
    )
    owf = parameters.owf.encode()
    if size is None:
        result = lib.opensslcmp_pbm(native(library), owf, digest, parameters.iterations, *tail)
    else:
        result = lib.opensslcmp_pbmac1(native(library), owf, digest, parameters.iterations, size, *tail)
    if result == 1:
        key = ffi.buffer(out + 64, lengths[1])[:]
        with _keys_lock:
            if len(_keys) >= _KEYS_KEPT:
                del _keys[next(iter(_keys))]
            _keys[identity] = key
    return result, ffi.buffer(out, lengths[0])[:]


def _mac_with(
    key: bytes, digest: bytes, data: bytes, expected: bytes | None, library: Library | None
) -> tuple[int, bytes]:
    """As ``_mac``, with the key that was derived before."""
    if expected is None:
        out, length, compared = ffi.new("unsigned char[64]"), ffi.new("size_t *"), ffi.NULL
    else:
        out, length, compared = ffi.NULL, ffi.NULL, expected
    result = lib.opensslcmp_keyed_mac(
        native(library),
        b"HMAC",
        digest,
        0,
        ffi.NULL,
        0,
        key,
        len(key),
        data,
        len(data),
        out,
        length,
        compared,
        len(expected or b""),
    )
    return result, ffi.buffer(out, length[0])[:] if expected is None else b""


@lru_cache(maxsize=64)
def _pbm_tail(owf: str, iterations: int, mac: str) -> bytes:
    """What follows the salt in a PBMParameter."""
    value = PBMParameter(salt=b"", owf=algorithm(_OWFS[owf]), iteration_count=iterations, mac=algorithm(_MACS[mac][0]))
    return unwrap(der(value))[2:]


@lru_cache(maxsize=64)
def _hmac_identifier(name: str) -> AlgorithmIdentifier:
    """As PBMAC1 has it: with NULL (RFC 8018, B.1.2)."""
    return algorithm(_MACS[name][0], _NULL)


_PBM_OID = der(x509.ObjectIdentifier(oids.PASSWORD_BASED_MAC))
_PRF_NAMES = {digest: name for name, (_, digest) in reversed(_MACS.items())} | {"SHA1": "hmacWithSHA1"}


def _mac_algorithm(parameters: MacParameters, salt: bytes) -> bytes:
    if parameters.scheme == "pbm":
        tail = _pbm_tail(parameters.owf, parameters.iterations, parameters.mac)
        return wrap(0x30, _PBM_OID + wrap(0x30, wrap(0x04, salt) + tail))
    mac_name = "hmacWithSHA1" if parameters.mac == "hmac-sha1" else parameters.mac
    derivation = PBKDF2Params(
        salt=salt,
        iteration_count=parameters.iterations,
        key_length=parameters.key_length or _SIZES[_MACS[mac_name][1]],
        prf=None if parameters.owf == "SHA1" else _hmac_identifier(_PRF_NAMES[parameters.owf]),
    )
    both = PBMAC1Params(
        key_derivation_func=algorithm(oids.PBKDF2, der(derivation)), message_auth_scheme=_hmac_identifier(mac_name)
    )
    return der(algorithm(oids.PBMAC1, der(both)))


def _check_own(parameters: MacParameters) -> None:
    if parameters.scheme not in {"pbm", "pbmac1"}:
        raise ValueError(f"no such MAC scheme: {parameters.scheme}")
    if parameters.owf not in _OWFS or parameters.mac not in _MACS:
        raise ValueError(f"no such MAC: {parameters.owf} and {parameters.mac}")
    if parameters.iterations < 1 or not 8 <= parameters.salt_length <= 128:
        raise ValueError("iterations must be at least 1, the salt 8 to 128 bytes")
    if parameters.key_length is not None and not _MIN_KEY_BYTES <= parameters.key_length <= 64:
        raise ValueError(f"key_length must be {_MIN_KEY_BYTES} to 64 bytes")


class Protector(Protocol):
    """Makes protections with one credential. May be used by several threads at once."""

    @property
    def kind(self) -> ProtectionKind:
        """MAC, SIGNATURE or KEM."""

    @property
    def sender_name(self) -> bytes:
        """DER of the Name that belongs into sender."""

    @property
    def sender_kid(self) -> bytes | None:
        """senderKID."""

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """What belongs into extraCerts, the protection certificate first."""

    @property
    def identity(self) -> bytes:
        """As ``Verified.identity`` of what it protects."""

    def begin(self) -> tuple[bytes, Callable[[bytes], bytes]]:
        """DER of protectionAlg of the next message, and the function from ProtectedPart to protection."""


class MacProtector:
    """Protects with a shared secret.

    Args:
        secret: reference and secret.
        parameters: how, by default as the secret says.
        salt: of every message; by default each has one of its own.
        library: where algorithms and salts come from, by default the process's own.

    Raises:
        ValueError: parameters that no MAC has.
    """

    __slots__ = ("_library", "_parameters", "_reference", "_salt", "_value")

    kind = ProtectionKind.MAC
    certificates: tuple[bytes, ...] = ()

    def __init__(
        self,
        secret: SharedSecret,
        parameters: MacParameters | None = None,
        salt: bytes | None = None,
        *,
        library: Library | None = None,
    ) -> None:
        self._reference = secret.reference
        self._value = secret.secret
        self._library = library
        self._parameters = parameters or secret.parameters
        self._salt = salt
        _check_own(self._parameters)

    @classmethod
    def _of(
        cls, reference: bytes, value: bytes, parameters: MacParameters, salt: bytes | None, library: Library | None
    ) -> MacProtector:
        """One whose parameters were looked at before."""
        made = cls.__new__(cls)
        made._reference, made._value, made._parameters, made._salt, made._library = (
            reference,
            value,
            parameters,
            salt,
            library,
        )
        return made

    @classmethod
    def answering(cls, verified: Verified, value: bytes) -> MacProtector:
        """For the answer to what was verified by this secret: the same parameters and salt.

        Raises:
            ValueError: it was no MAC.
        """
        if verified.mac is None or verified.reference is None:
            raise ValueError("not verified by a MAC")
        return cls._of(verified.reference, value, verified.mac, verified.salt, None)

    def like(self, parameters: MacParameters, salt: bytes | None = None) -> MacProtector:
        """The same secret with the parameters, and the salt, of a request, for its answer."""
        _check_own(parameters)
        return self._of(self._reference, self._value, parameters, salt, self._library)

    def of_one_transaction(self, salt: bytes | None = None) -> MacProtector:
        """The same with one salt for all messages of a transaction, so that its key is derived once.

        Args:
            salt: of a transaction that has begun; None for a fresh one.

        Source: RFC 9810, 5.1.3.1.
        """
        chosen = self.fresh_salt() if salt is None else salt
        return self._of(self._reference, self._value, self._parameters, chosen, self._library)

    def fresh_salt(self) -> bytes:
        """A salt of the length that the parameters ask for."""
        return fresh_bytes(self._parameters.salt_length, self._library)

    @property
    def sender_name(self) -> bytes:
        """CN=reference."""
        return _reference_name(self._reference)

    @property
    def sender_kid(self) -> bytes:
        """The reference."""
        return self._reference

    @property
    def identity(self) -> bytes:
        """``mac:`` and the reference."""
        return b"mac:" + self._reference

    def begin(self) -> tuple[bytes, Callable[[bytes], bytes]]:
        """A fresh salt unless there is one, and the MAC with it."""
        salt = self._salt or self.fresh_salt()

        def mac(part: bytes) -> bytes:
            result, value = _mac(self._parameters, salt, self._value, part, library=self._library)
            check(result == 1)
            return value

        return _mac_algorithm(self._parameters, salt), mac

    def __repr__(self) -> str:
        return f"<MacProtector {self._reference!r}>"


class SignatureProtector:
    """Protects with a certificate and its key.

    Args:
        signer: certificate, key and chain. PKCS#12 may be all of them.
        pss: RSASSA-PSS with an RSA key, as ``Signer.pss``.
        library: reads and holds the key, by default the process's own.

    Raises:
        ValueError: the key is not the certificate's.
        OpenSSLError: the key does not load.
    """

    __slots__ = ("_algorithm", "certificates", "identity", "key", "sender_kid", "sender_name")

    kind = ProtectionKind.SIGNATURE

    def __init__(self, signer: Signer, *, pss: bool = False, library: Library | None = None) -> None:
        password = password_of(signer.password)
        self.key = PrivateKey.load(signer.key, password, library=library)
        found = load_certificates(signer.certificate, password, library)
        spki = self.key.public_key_der
        own = next((each for each in found if facts(each).spki == spki), found[0])
        about = facts(own)
        self._algorithm = self.key.signature_algorithm(signer.digest, pss or signer.pss)
        if about.spki != spki:
            # The same point may be written compressed.
            try:
                probe = self.key.sign(b"opensslcmp", self._algorithm)
                verify_signature(
                    about.spki, self._algorithm, b"opensslcmp", probe, allow_weak=True, keep=False, library=library
                )
            except ProtectionError:
                raise ValueError("the private key is not the certificate's") from None
        chain = [own, *(each for each in found if each != own)]
        for source in signer.chain:
            chain += [each for each in load_certificates(source, None, library) if each not in chain]
        self.certificates: tuple[bytes, ...] = tuple(chain)
        self.sender_name: bytes = about.subject
        self.sender_kid: bytes | None = about.key_id
        self.identity: bytes = b"cert:" + about.fingerprint

    def begin(self) -> tuple[bytes, Callable[[bytes], bytes]]:
        """The key's algorithm, and the signature by it."""
        return self._algorithm, lambda part: self.key.sign(part, self._algorithm)

    def __repr__(self) -> str:
        return f"<SignatureProtector {self.key!r}>"


@lru_cache(maxsize=1024)
def _reference_name(reference: bytes) -> bytes:
    """CN=reference (RFC 9483, 3.1); NULL-DN for one that is no text, since a commonName is."""
    try:
        text = reference.decode()
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]).public_bytes()
    except ValueError:
        return NULL_DN


def protector_for(credential: Credential | Protector, library: Library | None = None) -> Protector:
    """The protector of a credential; keep it, since it loads the key.

    Args:
        library: where its key and algorithms live, by default the process's own; a protector keeps what it has.

    Raises:
        ValueError, OpenSSLError: as ``MacProtector`` and ``SignatureProtector``.
    """
    if isinstance(credential, SharedSecret):
        return MacProtector(credential, library=library)
    if isinstance(credential, Signer):
        return SignatureProtector(credential, library=library)
    if isinstance(credential, KemCredential):
        from opensslcmp.context.kem import KemProtector

        return KemProtector(credential, library=library)
    return credential


def protect(
    header: PKIHeader | bytes | tuple[bytes, bytes],
    body_type: BodyType,
    body_der: bytes,
    protector: Protector,
    extra_certs: Iterable[bytes] = (),
) -> bytes:
    """DER of the protected PKIMessage.

    Args:
        header: its protectionAlg and senderKID are set here; sender should be ``protector.sender_name``. As DER it has
            neither yet; as a pair (``header_parts``) it need not be taken apart.
        body_der: the body as it stands inside its [n] tag.
        extra_certs: DER, sent after the protector's own; what is there already is left out.

    Raises:
        OpenSSLError: the key does not sign.

    Source: RFC 9810, 5.1.3.
    """
    identifier, make = protector.begin()
    if not isinstance(header, tuple):
        if isinstance(header, PKIHeader):
            if header.protection_alg is not None or header.sender_kid is not None:
                header = dataclasses.replace(header, protection_alg=None, sender_kid=None)
            header = der(header)
        header = _in_two(header)
    before, after = header
    kid = protector.sender_kid
    added = wrap(0xA1, identifier) if kid is None else wrap(0xA1, identifier) + wrap(0xA2, wrap(0x04, kid))
    # Put together from bytes: copying and encoding a header anew takes longer.
    content = wrap(0x30, before + added + after) + wrap(0xA0 | body_type, body_der)
    certificates = b"".join(dict.fromkeys((*protector.certificates, *extra_certs)))
    bits = wrap(0x03, b"\0" + make(wrap(0x30, content)))
    return wrap(0x30, content + wrap(0xA0, bits) + (wrap(0xA1, wrap(0x30, certificates)) if certificates else b""))


def _in_two(header: bytes) -> tuple[bytes, bytes]:
    """The content of a header (DER) before and after the places of protectionAlg and senderKID."""
    _, start, end = read_header(header, 0, len(header))
    at = start
    for _ in range(3):
        _, _, at = read_header(header, at, end)
    if header[at : at + 1] == b"\xa0":
        _, _, at = read_header(header, at, end)
    return header[start:at], header[at:]


def protect_message(message: bytes, credential: Credential | Protector, *, limits: Limits | None = None) -> bytes:
    """A whole PKIMessage (DER) protected anew: protectionAlg, senderKID, protection and extraCerts are ours.

    Certificates that it carries stay, after ours; every other field stays as it is.

    Raises:
        BadMessage: it does not pass the gate.
        OpenSSLError: the key does not sign.
    """
    read = admit(message) if limits is None else admit(message, limits=limits)
    return protect(read.header, read.body_type, read.body_der, protector_for(credential), read.extra_certs)


# -- verification --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """Who protected a message.

    Attributes:
        kind: how.
        reference: of the secret; None for a signature.
        certificate: DER of the protection certificate; None for a MAC.
        chain: the path from it to an anchor, both included; the certificate alone when it was pinned.
        algorithm: name of the protection algorithm.
        signature_algorithm: DER of the AlgorithmIdentifier of a signature.
        mac, salt: its parameters and salt, to be mirrored by the answer.
        identity: stable id of the credential: ``mac:`` and the reference, or ``cert:`` and the certificate's SHA-256.
    """

    kind: ProtectionKind
    reference: bytes | None = None
    certificate: bytes | None = field(default=None, repr=False)
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    algorithm: str = ""
    signature_algorithm: bytes | None = None
    mac: MacParameters | None = None
    salt: bytes | None = None
    identity: bytes = b""


Verified.__init__ = initializer(Verified)  # type: ignore[method-assign]
_UNPROTECTED = Verified(kind=ProtectionKind.NONE)


def verify(
    message: Message,
    *,
    secrets: SecretSource | None = None,
    trust: Trust | None = None,
    pinned: bytes | None = None,
    kem: KemVerifier | None = None,
    limits: MacLimits = _DEFAULT_LIMITS,
    at: datetime | float | None = None,
    check_key_usage: bool = True,
    require_sender_kid: bool = True,
    first_certificate: bool = True,
    mac_sender: bool = False,
    candidates: Iterable[bytes] = (),
    key_bounds: KeyBounds = DEFAULT_KEY_BOUNDS,
    allow_weak: bool = False,
    library: Library | None = None,
) -> Verified:
    """Who protected ``message``; kind NONE when nobody did, which the caller judges.

    Args:
        secrets: secrets by reference; None: no MAC is accepted.
        trust: checks the signer's path; None: no signature is accepted but that of ``pinned``.
        pinned: DER of the only certificate that is accepted, without a path.
        kem: who it was by a KEM-based MAC; None: none is accepted.
        limits: bounds of MACs.
        at: the time that counts for the path, by default now.
        check_key_usage: keyUsage must allow digitalSignature.
        require_sender_kid: senderKID must be there when the protection certificate has a subjectKeyIdentifier, and
            with a MAC. When False, a missing one is forgiven; one that is there must fit.
        first_certificate: the protection certificate is the first of extraCerts; else it may be any of them.
        mac_sender: sender of a MAC-protected message must be CN=reference (RFC 9483, 3.1).
        candidates: DER of certificates that may be the signer's when extraCerts are empty.
        key_bounds: which RSA keys are accepted.
        allow_weak: accept MD5 and SHA-1 in signatures.
        library: where algorithms come from, by default the process's own; ``trust`` has its own.

    Raises:
        ProtectionError: wrongIntegrity (only one of protectionAlg and protection, or a kind that is not accepted),
            badAlg, badMessageCheck, signerNotTrusted, certRevoked, notAuthorized. The text never tells whether the
            reference or the secret was wrong.

    Source: RFC 9483, 3.5; RFC 9810, 5.1.3.
    """
    identifier = message.header.protection_alg
    if identifier is None and message.protection is None:
        return _UNPROTECTED
    if identifier is None or message.protection is None:
        raise ProtectionError("only one of protectionAlg and protection is there", FailureInfo.WRONG_INTEGRITY)
    oid = identifier.oid
    if oid in {oids.PASSWORD_BASED_MAC, oids.PBMAC1}:
        if secrets is None:
            raise ProtectionError("MAC protection is not accepted here", FailureInfo.WRONG_INTEGRITY)
        return _verify_mac(
            message,
            message.protection,
            secrets,
            limits,
            require_kid=require_sender_kid,
            mac_sender=mac_sender,
            library=library,
        )
    if oid in {oids.DH_BASED_MAC, oids.KEM_BASED_MAC}:
        if kem is None or oid == oids.DH_BASED_MAC:
            raise ProtectionError(f"{oids.name_of(oid)} is not supported", FailureInfo.BAD_ALG)
        return kem(message)
    if trust is None and pinned is None:
        raise ProtectionError("signature protection is not accepted here", FailureInfo.WRONG_INTEGRITY)
    algorithm_der = der(identifier)
    method = signature_algorithm(algorithm_der)
    certificate = _protection_certificate(message, pinned, first_certificate, require_sender_kid, candidates)
    about = facts(certificate)
    # The path first: what a signature under a key of the peer's choice costs, it costs only under one that a CA certified.
    if pinned is not None or trust is None:
        chain: tuple[bytes, ...] = (certificate,)
    else:
        others = tuple(each for each in message.extra_certs if each != certificate)
        chain = trust.path(certificate, others, at)
    verify_signature(
        about.spki,
        algorithm_der,
        message.protected_part,
        message.protection,
        bounds=key_bounds,
        allow_weak=allow_weak,
        library=library,
    )
    if check_key_usage and not about.digital_signature:
        raise ProtectionError("the protection certificate may not sign messages", FailureInfo.NOT_AUTHORIZED)
    return Verified(
        kind=ProtectionKind.SIGNATURE,
        certificate=certificate,
        chain=chain,
        algorithm=method.name,
        signature_algorithm=algorithm_der,
        identity=b"cert:" + about.fingerprint,
    )


def _protection_certificate(
    message: Message, pinned: bytes | None, first_only: bool, require_kid: bool, candidates: Iterable[bytes]
) -> bytes:
    """The certificate that sender and senderKID tell of."""
    kid = message.header.sender_kid
    sender = message.sender
    if pinned is not None:
        if first_only and message.extra_certs and message.extra_certs[0] != pinned:
            raise ProtectionError("the protection certificate is not the one that is accepted", _MESSAGE_CHECK)
        choice = [pinned]
    elif first_only:
        choice = list(message.extra_certs[:1]) or list(candidates)
    else:
        choice = [*message.extra_certs, *candidates]
    if not choice:
        raise ProtectionError("the protection certificate is not in extraCerts", _MESSAGE_CHECK)
    reason = "sender is not the subject of the protection certificate"
    for certificate in choice:
        try:
            about = facts(certificate)
        except ProtectionError:
            if len(choice) == 1:
                raise
            continue
        if about.key_id is not None and kid != about.key_id and (kid is not None or require_kid):
            reason = "senderKID is not the subjectKeyIdentifier of the protection certificate"
        elif sender is not None and same_name(sender, about.subject):
            return certificate
    raise ProtectionError(reason, _MESSAGE_CHECK)


_NOBODY = os.urandom(16)


def _verify_mac(
    message: Message,
    protection: bytes,
    secrets: SecretSource,
    limits: MacLimits,
    *,
    require_kid: bool,
    mac_sender: bool,
    library: Library | None,
) -> Verified:
    parameters, salt = _mac_parameters(message.mac, limits)
    reference = message.header.sender_kid
    if reference is None and not require_kid and message.sender is not None:
        reference = _common_name(message.sender)
    if not reference:
        raise ProtectionError("senderKID does not tell the reference of the secret", _MESSAGE_CHECK)
    found = secrets(reference)
    secret = found.secret if isinstance(found, SharedSecret) else found
    known = bool(secret)
    if mac_sender and (message.sender is None or _common_name(message.sender) != reference):
        known = False
    result, _ = _mac(parameters, salt, secret or _NOBODY, message.protected_part, protection, library)
    found = secret = None  # a traceback may show the locals of this frame
    if result < 0:
        raise ProtectionError("the MAC cannot be computed", FailureInfo.BAD_ALG, drain())
    if result != 1 or not known:
        raise ProtectionError("the MAC does not verify", _MESSAGE_CHECK)
    return Verified(
        kind=ProtectionKind.MAC,
        reference=reference,
        algorithm=oids.name_of(message.protection_algorithm or ""),
        mac=parameters,
        salt=salt,
        identity=b"mac:" + reference,
    )


@lru_cache(maxsize=64)
def _same_parameters(
    owf: str, mac: str, iterations: int, salt_length: int, scheme: str, key_length: int | None
) -> MacParameters:
    return MacParameters(
        owf=owf, mac=mac, iterations=iterations, salt_length=salt_length, scheme=scheme, key_length=key_length
    )


def verify_public_key_mac(
    value: PKMACValue, public_key: bytes, secret: bytes, limits: MacLimits = _DEFAULT_LIMITS
) -> None:
    """Return when this is the MAC of a public key (SubjectPublicKeyInfo, DER) under a shared secret.

    Raises:
        ProtectionError: badAlg, badMessageCheck.

    Source: RFC 4211, 4.1 and 4.4.
    """
    try:
        if value.alg_id.oid != oids.PASSWORD_BASED_MAC:
            raise ProtectionError("a MAC that is no PasswordBasedMac", FailureInfo.BAD_ALG)
        parameters, salt = _mac_parameters(decode(PBMParameter, value.alg_id.parameters_der or b""), limits)
        expected = bits(value.value)
    except ValueError:
        raise ProtectionError("a MAC that does not decode", FailureInfo.BAD_ALG) from None
    if _mac(parameters, salt, secret, public_key, expected)[0] != 1:
        raise ProtectionError("the MAC does not verify", _MESSAGE_CHECK, drain())


def _mac_parameters(given: object, limits: MacLimits) -> tuple[MacParameters, bytes]:
    """Parameters and salt of the MAC, inside the limits."""
    owf: str | None
    key_length: int | None = None
    if isinstance(given, PBMParameter):
        scheme, salt, iterations = "pbm", given.salt, given.iteration_count
        owf = _OWF_NAMES.get(_plain(given.owf) or "")
        mac = _MAC_NAMES.get(_plain(given.mac) or "")
        maximum = limits.max_iterations
    elif isinstance(given, PBMAC1Params):
        try:
            derivation = decode(PBKDF2Params, given.key_derivation_func.parameters_der or b"")
        except ValueError:
            raise ProtectionError("PBKDF2 parameters that do not decode", FailureInfo.BAD_ALG) from None
        scheme, salt, iterations = "pbmac1", derivation.salt, derivation.iteration_count
        prf = "hmacWithSHA1" if derivation.prf is None else _MAC_NAMES.get(_plain(derivation.prf) or "")
        owf = None if prf is None else _MACS[prf][1]
        mac = _MAC_NAMES.get(_plain(given.message_auth_scheme) or "")
        key_length = derivation.key_length
        maximum = limits.max_pbkdf2_iterations
        if key_length is not None and not _MIN_KEY_BYTES <= key_length <= 64:
            raise ProtectionError("a MAC key of an unusual length", FailureInfo.BAD_ALG)
    else:
        raise ProtectionError("a MAC without parameters", FailureInfo.BAD_ALG)
    if owf is None or mac is None or owf not in limits.digests or _MACS[mac][1] not in limits.digests:
        raise ProtectionError("a MAC over an unknown or refused hash", FailureInfo.BAD_ALG)
    # PBKDF2 runs once for each block of its hash that the key takes (RFC 8018, 5.2); keyLength is the peer's too.
    blocks = 1 if scheme == "pbm" else -(-(key_length or _SIZES[_MACS[mac][1]]) // _SIZES[owf])
    if not limits.min_iterations <= iterations <= maximum // _DEARER[scheme].get(owf, 1) // blocks:
        raise ProtectionError("the iteration count of the MAC is out of bounds", FailureInfo.BAD_ALG)
    if not limits.min_salt_bytes <= len(salt) <= limits.max_salt_bytes:
        raise ProtectionError("the salt of the MAC is too short or too long", FailureInfo.BAD_ALG)
    return _same_parameters(owf, mac, iterations, len(salt), scheme, key_length), salt


def _common_name(name: bytes) -> bytes | None:
    """The only commonName of a Name (DER), as UTF-8 bytes."""
    found = []
    try:
        for start, end in elements(name):
            rdn = name[start:end]
            for a, b in elements(rdn, 0x31):
                pair = rdn[a:b]
                (_, middle), (value, last) = elements(pair)
                if pair[:middle].endswith(b"\x06\x03\x55\x04\x03"):
                    _, content, _ = read_header(pair, value, last)
                    found.append(pair[content:last])
    except ValueError:
        return None
    return found[0] if len(found) == 1 else None
