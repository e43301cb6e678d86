"""``Session``: what a person does with a CMP server, one blocking call each.

>>> from opensslcmp import Context, SharedSecret
>>> context = Context("http://ca.example/.well-known/cmp", credential=SharedSecret("device-17", "secret"))
>>> session = Session(context)

``session.enroll("CN=device-17", generate="ec:P-256")`` then gives a certificate and its key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal

from cryptography import x509

from opensslcmp.client import operations
from opensslcmp.client.context import Context, NameSource
from opensslcmp.client.exchange import Waits
from opensslcmp.client.operations import Confirm, InfoItem, Validity
from opensslcmp.client.results import Info, Issued, RequestTemplate, Revoked, RootCaUpdate
from opensslcmp.credentials import CertificateSource, KeySource
from opensslcmp.enums import RevocationReason

__all__ = ["Session"]


class Session:
    """Runs transactions with a server. May be used by several threads at once; each call is a transaction of its own.

    Args:
        context: who, whom and how.
        transport: something with ``send(request, timeout_seconds)``, or a function from bytes to bytes. By default HTTP to
            ``context.server``, over connections that all sessions of the context share.
        sleep: how to wait between polls.

    Every operation raises ``Rejected`` when the server says no, ``ProtectionError`` when an answer is not authentic,
    ``BadMessage`` when it breaks a rule, ``TransportError`` or ``TimedOut`` when there is none, ``OpenSSLError`` when
    libcrypto refuses, ``ValueError`` or ``TypeError`` for a caller's mistake.
    """

    def __init__(
        self,
        context: Context,
        transport: Any = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.context = context
        carrier = context.transport() if transport is None else transport
        send = getattr(carrier, "send", None)
        if send is not None:
            exchange: Callable[[bytes, float], bytes] = send
        elif callable(carrier):

            def exchange(request: bytes, timeout_seconds: float) -> bytes:
                return bytes(carrier(request))

        else:
            raise TypeError("a transport has send(), or is a function from bytes to bytes")
        self._waits = Waits(exchange, sleep)

    def enroll(
        self,
        subject: NameSource | None = None,
        key: KeySource | None = None,
        *,
        kind: Literal["ir", "cr"] = "ir",
        generate: str | None = None,
        password: bytes | None = None,
        subject_alternative_names: Iterable[x509.GeneralName] = (),
        extensions: Iterable[x509.Extension[Any] | x509.ExtensionType] = (),
        policies: Iterable[str] = (),
        validity: Validity = None,
        issuer: NameSource | None = None,
        profile: str | Sequence[str] | None = None,
        token: str | None = None,
        implicit_confirm: bool | None = None,
        confirm: Confirm | None = None,
    ) -> Issued:
        """A first certificate (ir), or a further one (cr).

        Args:
            subject: wished; may be None where there are alternative names, or a certificate of ours to take it from.
            key: to be certified: a ``cryptography`` key, PEM, DER, path, provider URI or PrivateKey.
            kind: ``ir`` or ``cr``.
            generate: makes the key: ``ec:P-256``, ``rsa:3072``, ``ed25519``...; the result holds it.
            password: opens an encrypted ``key``.
            subject_alternative_names, extensions, policies: wished extensions; policies are dotted OIDs.
            validity: wished: two moments, or days from now.
            issuer: wished, for a server with several.
            profile: certProfile, as the server names it.
            token: one-time registration token (RFC 4211, 6.1).
            implicit_confirm: ask to waive the confirmation; None for what the context says.
            confirm: looks at the certificate before it is confirmed; raises ``Rejected`` to refuse it.

        Source: OSSL_CMP_exec_certreq(3); RFC 9810, 5.3.1 to 5.3.4; RFC 9483, 4.1.
        """
        return operations.enroll(
            self._waits,
            self.context,
            subject,
            key,
            kind=kind,
            generate=generate,
            password=password,
            subject_alternative_names=subject_alternative_names,
            extensions=extensions,
            policies=policies,
            validity=validity,
            issuer=issuer,
            profile=profile,
            token=token,
            implicit_confirm=implicit_confirm,
            confirm=confirm,
        )

    def enroll_csr(
        self,
        request: x509.CertificateSigningRequest | bytes,
        *,
        profile: str | Sequence[str] | None = None,
        implicit_confirm: bool | None = None,
        confirm: Confirm | None = None,
    ) -> Issued:
        """A certificate for a PKCS#10 request (p10cr): ``cryptography``'s, PEM or DER. Other arguments as in ``enroll``.

        Source: OSSL_CMP_exec_certreq(3); RFC 9483, 4.1.4.
        """
        return operations.enroll_csr(
            self._waits, self.context, request, profile=profile, implicit_confirm=implicit_confirm, confirm=confirm
        )

    def update(
        self,
        certificate: CertificateSource | None = None,
        key: KeySource | None = None,
        *,
        generate: str | None = None,
        password: bytes | None = None,
        subject: NameSource | None = None,
        subject_alternative_names: Iterable[x509.GeneralName] = (),
        extensions: Iterable[x509.Extension[Any] | x509.ExtensionType] = (),
        policies: Iterable[str] = (),
        validity: Validity = None,
        profile: str | Sequence[str] | None = None,
        implicit_confirm: bool | None = None,
        confirm: Confirm | None = None,
    ) -> Issued:
        """A new certificate in place of an old one (kur).

        Args:
            certificate: the old one; by default the one we sign with, as servers ask for it.
            key: the new key, or ``generate`` makes it. Other arguments as in ``enroll``.

        Source: OSSL_CMP_exec_certreq(3); RFC 9483, 4.1.3.
        """
        return operations.update(
            self._waits,
            self.context,
            certificate,
            key,
            generate=generate,
            password=password,
            subject=subject,
            subject_alternative_names=subject_alternative_names,
            extensions=extensions,
            policies=policies,
            validity=validity,
            profile=profile,
            implicit_confirm=implicit_confirm,
            confirm=confirm,
        )

    def revoke(
        self,
        certificate: CertificateSource | None = None,
        *,
        issuer: NameSource | None = None,
        serial_number: int | None = None,
        reason: RevocationReason | None = None,
    ) -> Revoked:
        """A certificate is revoked (rr); with ``RevocationReason.REMOVE_FROM_CRL``, made valid again.

        Args:
            certificate: by default the one we sign with; or name it by ``issuer`` and ``serial_number``.
            reason: why.

        Source: RFC 9810, 5.3.9; RFC 9483, 4.2.
        """
        return operations.revoke(
            self._waits, self.context, certificate, issuer=issuer, serial_number=serial_number, reason=reason
        )

    def request_info(self, *items: InfoItem, profile: str | Sequence[str] | None = None) -> tuple[Info, ...]:
        """The server's values for a genm.

        Args:
            items: each a dotted OID, an OID and a value (DER as bytes, or as ``opensslcmp.asn1.encode_info`` takes it), or
                an InfoTypeAndValue.
            profile: certProfile.

        Source: RFC 9810, 5.3.19 and 5.3.20.
        """
        return operations.request_info(self._waits, self.context, *items, profile=profile)

    def ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """The CA certificates that the server hands out (caCerts); trusting them is the caller's decision.

        Source: RFC 9483, 4.3.1.
        """
        return operations.ca_certificates(self._waits, self.context)

    def root_ca_update(self, root: CertificateSource | None = None) -> RootCaUpdate | None:
        """The root that follows ``root``, verified against it; None when there is none.

        Args:
            root: the one held, by default the context's only anchor.

        Raises:
            ProtectionError: signerNotTrusted, the old root does not vouch for the new one.

        Source: RFC 9483, 4.3.2.
        """
        return operations.root_ca_update(self._waits, self.context, root)

    def certificate_request_template(self, *, profile: str | Sequence[str] | None = None) -> RequestTemplate | None:
        """What the server wants a request to hold; None when it leaves that open.

        Source: RFC 9483, 4.3.3.
        """
        return operations.certificate_request_template(self._waits, self.context, profile=profile)

    def crl_update(
        self,
        last: x509.CertificateRevocationList | bytes | None = None,
        *,
        certificate: CertificateSource | None = None,
        issuer: CertificateSource | None = None,
    ) -> x509.CertificateRevocationList | None:
        """The CRL newer than ``last``; None when there is none.

        Its signature is verified with a certificate of its issuer: ``issuer``, or one that the context holds (anchors,
        untrusted, extra, the credential's chain), or one of the answer with a path to an anchor. Where there is none of
        these the CRL is as good as the answer that brought it: its own signature has not been verified.

        Args:
            last: the CRL held, if any.
            certificate: whose issuer's or distribution point's CRL is wanted; by default that of ``last``'s issuer.
            issuer: the CA's certificate, taken as it is.

        Raises:
            ProtectionError: signerNotTrusted, the CRL is not signed by its issuer.

        Source: RFC 9483, 4.3.4.
        """
        return operations.crl_update(self._waits, self.context, last, certificate=certificate, issuer=issuer)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is held here; connections belong to the context."""
