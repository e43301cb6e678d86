"""Configuration of a client: immutable, shared by any number of sessions and threads, like ``ssl.SSLContext``.

Whatever costs to load is loaded here, once: the key of the credential, certificates, anchors, names. Nothing of a
transaction is kept in it, so a peer cannot change it: each enrollment has an ``OSSL_CMP_CTX`` of its own, no trust store is
ever within reach of caPubs, and these are handed out in results.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias, get_args
from urllib.parse import urlsplit

from cryptography import x509

from opensslcmp.asn1 import NULL_DN, Limits, Message
from opensslcmp.client.failover import Retry, Servers
from opensslcmp.client.possession import Proof
from opensslcmp.context.certificates import Trust, facts, load_certificate, load_certificates, same_name
from opensslcmp.context.kem import is_kem_key
from opensslcmp.context.library import Library, Providers
from opensslcmp.context.protection import (
    KemVerifier,
    MacLimits,
    ProtectionKind,
    Protector,
    SignatureProtector,
    Verified,
    protector_for,
    verify,
)
from opensslcmp.credentials import CertificateSource, Credential, SharedSecret
from opensslcmp.enums import BodyType
from opensslcmp.errors import ProtectionError

__all__ = ["Context", "NameSource", "name_from"]

NameSource: TypeAlias = x509.Name | str | bytes
"""A distinguished name: ``cryptography``'s, RFC 4514 text, ``/CN=...`` as ``openssl`` writes it, or DER."""

_KEY_ENCIPHERMENT = 0x2000
Certificates: TypeAlias = "Iterable[CertificateSource] | CertificateSource"


class Context:
    """How to reach and trust a server, and who we are.

    Args:
        server: URL, such as ``http://ca.example/.well-known/cmp``; may be None where sessions get a transport of their own.
        servers: URLs of several servers with one state, the one to ask first first; instead of ``server``.
        retry: how often a message is sent until it is answered; by default five times with several servers, else once.
        credential: ``SharedSecret``, ``Signer`` or ``KemCredential``; None only with ``unprotected_requests``.
        trusted: anchors for the signatures of the server. Without them, and without ``pinned``, only a MAC is accepted.
        untrusted: intermediates that help to build paths.
        crls: revocation lists that the signer's path is checked against.
        pinned: the only certificate that may sign answers; no path is built.
        kem_certificate: the server's, when it is known to have a KEM key: answers are to be protected by that. A server that asks
            for it names its own, which is trusted as a signer's is.
        certificates_trusted: anchors for the *new* certificate, checked before it is confirmed (``-out_trusted``).
        check_certificate: before a new certificate is confirmed it must be in force, hold the subject and the alternative names
            that were asked for, unless the server granted with modifications, and be signed by its issuer, where that one
            is known to be ours or the server's. False is for servers that change them silently, and for devices without a
            clock. That it is for our key is checked always.
        expected_sender: the only name that may be sender of an answer.
        recipient: of requests; by default the pinned certificate's subject or the credential's issuer.
        extra_certificates: sent along in extraCerts, after the credential's own.
        connect_timeout_seconds, message_timeout_seconds: of one connection and one round trip.
        total_timeout_seconds: of a whole transaction with its polling.
        min_poll_seconds, max_poll_seconds: what a server's checkAfter is clamped to.
        max_wait_seconds: how long a ``Pending`` may wait for the server from its request on, over all who resume it.
        max_resend_seconds: how old a request without an answer may be to be sent once more from a journal; set it below the time
            that the server remembers transactions.
        proxy: URL of an HTTP proxy; ``no_proxy`` names servers to reach without it.
        tls: a ``transport.TLS``: trust, client certificate, host name check.
        max_connections: to the server at one time; a message waits for one to become free, as long as its timeout lasts.
        implicit_confirm: ask the server to waive the confirmation.
        disable_confirm: never confirm. Breaks RFC 9810.
        popo: proof of possession, where the operation says nothing; ``indirect`` for a key that does not sign.
        digest: hash of signatures, in proofs and, where the credential says nothing, in protection.
        owf, mac: of a shared secret's MAC; by default what the ``SharedSecret`` says.
        validity_days: asked for in requests; 0 asks for none.
        default_sans: an update asks for the subjectAltName of the old certificate, unless others are given.
        sans_critical, policies_critical: mark these extensions of requests as critical.
        ignore_key_usage: the signer's keyUsage need not allow digitalSignature.
        unprotected_errors: believe negative answers and pkiConf without (valid) protection. Breaks RFC 9810.
        unprotected_requests: send without protection.
        no_cache_extra_certs: forget the signer found in one answer before the next one of the same transaction.
        permit_ta_in_extra_certs_for_ir: an ip may bring its own anchor in extraCerts (3GPP TS 33.310).
        limits, mac_limits: bounds on what an answer may make us do.
        library: where every algorithm comes from: digests, MACs, signatures, keys, paths and random numbers.
        properties: property query of all of them, such as ``fips=yes``; short for ``library=Library(properties=...)``.
        providers, provider_path: a library with these; short for ``library=Library(...)``.

    Raises:
        ValueError: options that contradict each other.
        OpenSSLError: a key or certificate does not load.

    Source: OSSL_CMP_CTX_new(3), openssl-cmp(1).
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        servers: Sequence[str] = (),
        retry: Retry | None = None,
        credential: Credential | Protector | None = None,
        trusted: Certificates = (),
        untrusted: Certificates = (),
        crls: Iterable[Any] = (),
        pinned: CertificateSource | None = None,
        kem_certificate: CertificateSource | None = None,
        certificates_trusted: Certificates = (),
        check_certificate: bool = True,
        expected_sender: NameSource | None = None,
        recipient: NameSource | None = None,
        extra_certificates: Certificates = (),
        connect_timeout_seconds: float = 10.0,
        message_timeout_seconds: float = 60.0,
        total_timeout_seconds: float = 3600.0,
        min_poll_seconds: float = 1.0,
        max_poll_seconds: float = 600.0,
        max_wait_seconds: float = 7 * 86400.0,
        max_resend_seconds: float = 86400.0,
        proxy: str | None = None,
        no_proxy: str | None = None,
        tls: Any = None,
        max_connections: int = 32,
        implicit_confirm: bool = False,
        disable_confirm: bool = False,
        popo: Proof = "signature",
        digest: str | None = None,
        owf: str | None = None,
        mac: str | None = None,
        validity_days: int = 0,
        default_sans: bool = True,
        sans_critical: bool = False,
        policies_critical: bool = False,
        ignore_key_usage: bool = False,
        unprotected_errors: bool = False,
        unprotected_requests: bool = False,
        no_cache_extra_certs: bool = False,
        permit_ta_in_extra_certs_for_ir: bool = False,
        limits: Limits | None = None,
        mac_limits: MacLimits | None = None,
        library: Library | None = None,
        properties: str | None = None,
        providers: Providers = (),
        provider_path: str | os.PathLike[str] | None = None,
    ) -> None:
        if credential is None and not unprotected_requests:
            raise ValueError("a credential is needed, or unprotected_requests=True")
        for name, seconds in (
            ("connect_timeout_seconds", connect_timeout_seconds),
            ("message_timeout_seconds", message_timeout_seconds),
            ("total_timeout_seconds", total_timeout_seconds),
            ("max_poll_seconds", max_poll_seconds),
            ("max_wait_seconds", max_wait_seconds),
            ("max_resend_seconds", max_resend_seconds),
        ):
            if not (seconds > 0 and math.isfinite(seconds)):
                raise ValueError(f"{name} must be finite and above 0")
        if max_connections < 1:
            raise ValueError("max_connections must be at least 1")
        if popo not in get_args(Proof):
            raise ValueError(f"no such proof of possession: {popo}")
        if implicit_confirm and disable_confirm:
            raise ValueError("implicit_confirm and disable_confirm exclude each other")
        if validity_days < 0:
            raise ValueError("validity_days must not be negative")
        if isinstance(servers, str):
            raise TypeError("servers takes several URLs, server takes one")
        if server is not None and servers:
            raise ValueError("either server or servers")
        if properties is not None or providers or provider_path is not None:
            if library is not None:
                raise ValueError("either a library, or properties and providers")
            library = Library(providers=providers, provider_path=provider_path, properties=properties)
        self.library = library
        self._owf, self._mac = owf, mac
        self.digest = digest
        self.protector: Protector | None
        self._secret: SharedSecret | None
        self.protector, self._secret = self._of(credential)
        self.servers: tuple[str, ...] = tuple(servers) or (() if server is None else (server,))
        self.server = self.servers[0] if self.servers else None
        self.retry = retry or Retry(attempts=1 if len(self.servers) < 2 else 5)
        self.health = Servers(self.retry)
        self.trusted: tuple[bytes, ...] = _load(trusted)
        self.untrusted: tuple[bytes, ...] = _load(untrusted)
        self.extra_certificates: tuple[bytes, ...] = _load(extra_certificates)
        self.pinned: bytes | None = None if pinned is None else load_certificate(pinned)
        self.trust = Trust(self.trusted, crls=crls, untrusted=self.untrusted, library=library) if self.trusted else None
        self.kem_chain: tuple[bytes, ...] = () if kem_certificate is None else self._kem_chain(kem_certificate)
        new_anchors = _load(certificates_trusted)
        self.certificate_trust = Trust(new_anchors, untrusted=self.untrusted, library=library) if new_anchors else None
        self.check_certificate = check_certificate
        self.expected_sender: bytes | None = None if expected_sender is None else name_from(expected_sender)
        self._given_recipient = recipient
        self.recipient: bytes = self._recipient(recipient)
        self.connect_timeout_seconds = connect_timeout_seconds
        self.message_timeout_seconds = message_timeout_seconds
        self.total_timeout_seconds = total_timeout_seconds
        self.min_poll_seconds = min(min_poll_seconds, max_poll_seconds)
        self.max_poll_seconds = max_poll_seconds
        self.max_wait_seconds = max_wait_seconds
        self.max_resend_seconds = max_resend_seconds
        self.proxy = proxy
        self.no_proxy = no_proxy
        self.tls = tls
        self.max_connections = max_connections
        self.implicit_confirm = implicit_confirm
        self.disable_confirm = disable_confirm
        self.popo = popo
        self.validity_days = validity_days
        self.default_sans = default_sans
        self.sans_critical = sans_critical
        self.policies_critical = policies_critical
        self.ignore_key_usage = ignore_key_usage
        self.unprotected_errors = unprotected_errors
        self.unprotected_requests = unprotected_requests
        self.no_cache_extra_certs = no_cache_extra_certs
        self.permit_ta_in_extra_certs_for_ir = permit_ta_in_extra_certs_for_ir
        self.limits = limits or Limits()
        self.mac_limits = mac_limits or MacLimits()
        self._transports: list[Any] = []
        self._lock = threading.Lock()
        self._frozen = True

    def __setattr__(self, name: str, value: Any) -> None:
        if getattr(self, "_frozen", False):
            raise AttributeError("a Context does not change; make another one")
        object.__setattr__(self, name, value)

    def _recipient(self, given: NameSource | None) -> bytes:
        if given is not None:
            return name_from(given)
        if self.pinned is not None:
            return facts(self.pinned).subject
        certificate = self.own_certificate
        return NULL_DN if certificate is None else facts(certificate).issuer

    def _kem_chain(self, source: CertificateSource) -> tuple[bytes, ...]:
        certificate = load_certificate(source)
        if not is_kem_key(facts(certificate).spki):
            raise ValueError("kem_certificate is of no KEM key")
        # Given by who configures us, it is trusted as it is, as a pinned one.
        return (certificate,)

    def kem_server(self, message: Message) -> tuple[bytes, ...]:
        """The path of the KEM certificate that a server without other means names in an answer without protection.

        Returns:
            the certificate first; nothing when the answer names none that we trust.

        Source: RFC 9810, appendix E.
        """
        if self.trust is None and self.pinned is None:
            return ()
        for certificate in message.extra_certs[:1]:
            with contextlib.suppress(ProtectionError):
                about = facts(certificate)
                usable = about.key_usage is None or bool(about.key_usage & _KEY_ENCIPHERMENT)
                if not is_kem_key(about.spki) or not usable or not same_name(message.sender or b"", about.subject):
                    continue
                if self.pinned is not None:
                    return (certificate,) if certificate == self.pinned else ()
                if self.trust is not None:
                    return self.trust.path(certificate, message.extra_certs[1:])
        return ()

    @property
    def own_certificate(self) -> bytes | None:
        """DER of the certificate we protect messages with; None for a shared secret."""
        protector = self.protector
        if protector is None or protector.kind is ProtectionKind.MAC or not protector.certificates:
            return None
        return protector.certificates[0]

    @property
    def own_key(self) -> Any:
        """The PrivateKey we sign with; None for a shared secret."""
        return self.protector.key if isinstance(self.protector, SignatureProtector) else None

    @property
    def shared_secret(self) -> bytes | None:
        """The secret of our MACs; None for who signs."""
        return None if self._secret is None else self._secret.secret

    def with_credential(self, credential: Credential | Protector) -> Context:
        """The same context for another party: everything loaded, the connections and what is known of the servers are shared.

        Raises:
            ValueError, OpenSSLError: the credential cannot be used.
        """
        other = copy.copy(self)
        protector, secret = self._of(credential)
        for name, value in (("protector", protector), ("_secret", secret)):
            object.__setattr__(other, name, value)
        object.__setattr__(other, "recipient", other._recipient(self._given_recipient))
        return other

    def _of(self, credential: Credential | Protector | None) -> tuple[Protector | None, SharedSecret | None]:
        """What protects, and the secret that answers are verified with."""
        secret = None
        if isinstance(credential, SharedSecret):
            if self._owf or self._mac:
                given = credential.parameters
                parameters = dataclasses.replace(given, owf=self._owf or given.owf, mac=self._mac or given.mac)
                credential = SharedSecret(credential.reference, credential.secret, parameters=parameters)
            secret = credential
        elif self.digest is not None and credential is not None and getattr(credential, "digest", "") is None:
            credential = dataclasses.replace(credential, digest=self.digest)  # type: ignore[type-var]
        return None if credential is None else protector_for(credential, self.library), secret

    @property
    def shown_server(self) -> str | None:
        """The first server's URL, without user and password, and without a query."""
        if self.server is None:
            return None
        parts = urlsplit(self.server)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}:{'//' if host else ''}{host}{parts.path}"

    def transport(self) -> Any:
        """The transport to ``server`` that all sessions of this context share, its connections kept alive.

        Raises:
            ValueError: there is no server.
        """
        return self.transports()[0]

    def transports(self) -> Sequence[Any]:
        """As ``transport``, to each of ``servers``.

        Raises:
            ValueError: there is no server.
        """
        with self._lock:
            if not self._transports:
                from opensslcmp.transport import transport_for

                self._transports[:] = self._over(transport_for)
            return tuple(self._transports)

    def async_transports(self) -> Sequence[Any]:
        """New transports to ``servers`` for an event loop; whoever asked for them closes them.

        Raises:
            ValueError: there is no server.
        """
        from opensslcmp.transport import async_transport_for

        return self._over(async_transport_for)

    def _over(self, transport: Callable[..., Any]) -> Sequence[Any]:
        if not self.servers:
            raise ValueError("the context names no server, so the session needs a transport")
        return [
            transport(
                server,
                connect_timeout_seconds=self.connect_timeout_seconds,
                message_timeout_seconds=self.message_timeout_seconds,
                proxy=self.proxy,
                no_proxy=self.no_proxy,
                tls=self.tls,
                max_response_bytes=self.limits.max_message_bytes,
                max_connections=self.max_connections,
            )
            for server in self.servers
        ]

    def verify(self, message: Message, candidates: Iterable[bytes] = (), kem: KemVerifier | None = None) -> Verified:
        """Who protected an answer; kind NONE when nobody did.

        Args:
            candidates: certificates that signed earlier answers of the transaction.
            kem: who it was by a KEM-based MAC; None: none is accepted.

        Raises:
            ProtectionError: the protection is not valid, or not of someone we trust.
        """
        if self.expected_sender is not None and message.sender != self.expected_sender:
            raise ProtectionError("the answer is not from the expected sender")
        secrets: Callable[[bytes], SharedSecret | None] | None = None
        secret = self._secret
        if secret is not None:
            if message.sender_kid is None and message.mac is not None and kem is None:
                # Peers without a reference of their own leave senderKID out; the MAC is over the bytes as they came.
                header = dataclasses.replace(message.header, sender_kid=secret.reference)
                message = dataclasses.replace(message, header=header)

            def secrets(_reference: bytes) -> SharedSecret | None:
                return secret

        trust = self.trust
        if self.permit_ta_in_extra_certs_for_ir and message.body_type is BodyType.IP:
            trust = self._trust_of(message) or trust
        return verify(
            message,
            secrets=secrets,
            trust=trust,
            pinned=self.pinned,
            kem=kem,
            limits=self.mac_limits,
            check_key_usage=not self.ignore_key_usage,
            require_sender_kid=False,
            first_certificate=False,
            # The server may leave out certificates that we have, a root above all, even when it signs with that.
            candidates=(*candidates, *self.untrusted, *self.trusted),
            library=self.library,
        )

    def _trust_of(self, message: Message) -> Trust | None:
        """Our anchors and the self-issued certificates that an ip brings (3GPP TS 33.310, 9.5.4)."""
        found = []
        for each in message.extra_certs:
            with contextlib.suppress(ProtectionError, ValueError):
                if facts(each).subject == facts(each).issuer:
                    found += load_certificates(each)
        with contextlib.suppress(ValueError):  # libcrypto is another reader than the ones above
            return Trust([*self.trusted, *found], untrusted=self.untrusted, library=self.library) if found else None
        return None

    def close(self) -> None:
        """Close the connections; the context can still be used."""
        with self._lock:
            transports = tuple(self._transports)
            self._transports.clear()
        for transport in transports:
            transport.close()

    def __repr__(self) -> str:
        who = "unprotected" if self.protector is None else repr(self.protector)
        # What stands before the host may be a password.
        scheme, separator, rest = (self.server or "without server").rpartition("://")
        authority, slash, path = rest.partition("/")
        return f"<Context {scheme}{separator}{authority.rpartition('@')[2]}{slash}{path} {who}>"


def name_from(source: NameSource) -> bytes:
    """DER of a distinguished name.

    >>> name_from("CN=device") == name_from("/CN=device")
    True

    Raises:
        ValueError: it is none.
    """
    if isinstance(source, x509.Name):
        return source.public_bytes()
    if isinstance(source, bytes):
        if source[:1] != b"0":
            raise ValueError("not the DER of a Name")
        return source
    return _parsed(source)


@lru_cache(maxsize=256)
def _parsed(source: str) -> bytes:
    if source.startswith("/"):
        parts: list[str] = []
        for part in source[1:].split("/"):
            if parts and "=" not in part:
                parts[-1] += "/" + part
            else:
                parts.append(part)
        pairs = [part.partition("=") for part in parts if part]
        escaped = [f"{kind}={_escape(value)}" for kind, _, value in pairs]
        source = ",".join(reversed(escaped))
    try:
        return x509.Name.from_rfc4514_string(source, _MORE_TYPES).public_bytes()
    except ValueError as error:
        why = f": {error}" if str(error) else ""
        raise ValueError(f"not a name like CN=device,O=Example or /O=Example/CN=device: {source}{why}") from None


_MORE_TYPES = {
    "emailAddress": x509.NameOID.EMAIL_ADDRESS,
    "serialNumber": x509.NameOID.SERIAL_NUMBER,
    "SN": x509.NameOID.SURNAME,
    "GN": x509.NameOID.GIVEN_NAME,
    "title": x509.NameOID.TITLE,
}


def _escape(value: str) -> str:
    return "".join(f"\\{character}" if character in ',+"\\<>;=#' else character for character in value)


def _load(source: Certificates) -> tuple[bytes, ...]:
    if isinstance(source, (str, bytes, x509.Certificate)) or hasattr(source, "__fspath__"):
        source = [source]
    return tuple(each for one in source for each in load_certificates(one))
