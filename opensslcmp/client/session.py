"""``Session``: what a person does with a CMP server, one blocking call each.

>>> from opensslcmp import Context, SharedSecret
>>> context = Context("http://ca.example/.well-known/cmp", credential=SharedSecret("device-17", "secret"))
>>> session = Session(context)

``session.enroll("CN=device-17", generate="ec:P-256")`` then gives a certificate and its key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Unpack, cast, overload

from cryptography import x509

from opensslcmp.asn1 import AttributeTypeAndValue
from opensslcmp.client import operations
from opensslcmp.client.bulk import Order, Outcome, fulfil, in_threads, take_up
from opensslcmp.client.context import Context, NameSource
from opensslcmp.client.exchange import Waits
from opensslcmp.client.journal import Entry, Journal
from opensslcmp.client.operations import (
    Confirm,
    CrossOptions,
    CSROptions,
    EnrollOptions,
    InfoItem,
    Result,
    UpdateOptions,
    Validity,
)
from opensslcmp.client.pending import Pending
from opensslcmp.client.possession import Proof
from opensslcmp.client.recovery import recover_keys
from opensslcmp.client.results import Info, Issued, RecoveredKey, RequestTemplate, Revoked, RootCaUpdate
from opensslcmp.client.several import enroll_several
from opensslcmp.credentials import CertificateSource, Credential, KeySource
from opensslcmp.enums import RevocationReason

__all__ = ["Session", "several"]


class Session:
    """Runs transactions with a server. May be used by several threads at once; each call is a transaction of its own.

    Args:
        context: who, whom and how.
        transport: something with ``send(request, timeout_seconds)``, or a function from bytes to bytes; or several of them,
            ways to servers that share their state. By default HTTP to ``context.servers``, over connections that all
            sessions of the context share.
        sleep: how to wait between polls.
        journal: where requests for certificates and revocations are written down before they are sent.

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
        journal: Journal | None = None,
    ) -> None:
        self.context = context
        self.journal = journal
        first, *others = [_exchange(each) for each in several(context.transports() if transport is None else transport)]
        self._waits = Waits(
            first, sleep, others=tuple(others), journal=journal, record=None if journal is None else journal.record
        )

    @overload
    def enroll(
        self,
        subject: NameSource | None = None,
        key: KeySource | None = None,
        *,
        wait: Literal[True] = True,
        **options: Unpack[EnrollOptions],
    ) -> Issued: ...

    @overload
    def enroll(
        self,
        subject: NameSource | None = None,
        key: KeySource | None = None,
        *,
        wait: bool,
        **options: Unpack[EnrollOptions],
    ) -> Issued | Pending: ...

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
        controls: Iterable[AttributeTypeAndValue] = (),
        reg_info: Iterable[AttributeTypeAndValue] = (),
        archive: CertificateSource | bool = False,
        proof: Proof | None = None,
        implicit_confirm: bool | None = None,
        confirm: Confirm | None = None,
        wait: bool = True,
        label: str | None = None,
    ) -> Issued | Pending:
        """A first certificate (ir), or a further one (cr).

        Args:
            subject: wished; may be None where there are alternative names, or a certificate of ours to take it from.
            key: to be certified: a ``cryptography`` key, PEM, DER, path, provider URI or PrivateKey.
            kind: ``ir`` or ``cr``.
            generate: makes the key: ``ec:P-256``, ``rsa:3072``, ``ed25519``...; the result holds it. ``central`` or
                ``central:ec:P-256`` lets the server make it (RFC 9483, 4.1.6).
            password: opens an encrypted ``key``.
            subject_alternative_names, extensions, policies: wished extensions; policies are dotted OIDs.
            validity: wished: two moments, or days from now.
            issuer: wished, for a server with several.
            profile: certProfile, as the server names it.
            token: one-time registration token (RFC 4211, 6.1).
            controls, reg_info: what else the request says (RFC 4211, 6 and 7), as ``opensslcmp.asn1.controls`` makes it.
            archive: certificate (of an escrow) that our private key is sealed to, for ``recover_keys``; True for a key that
                the server makes.
            proof: of possession of the key, by default what the context says, or ``indirect`` for a key that does not sign:
                ``signature``; ``indirect``, the certificate comes encrypted to the key; ``challenge``, a number does before
                anything is issued; ``raVerified``, which is for registration authorities.
            implicit_confirm: ask to waive the confirmation; None for what the context says.
            confirm: looks at the certificate before it is confirmed; raises ``Rejected`` to refuse it.
            wait: when the server says "waiting", ask again until it has decided; False gives a ``Pending`` then.
            label: the caller's name for this certificate. With a journal there is one certificate under it: one that was
                begun is taken up again, one that is there is given out as it was.

        Source: OSSL_CMP_exec_certreq(3); RFC 9810, 5.3.1 to 5.3.4; RFC 9483, 4.1.
        """
        result = operations.enroll(
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
            controls=controls,
            reg_info=reg_info,
            archive=archive,
            proof=proof,
            implicit_confirm=implicit_confirm,
            confirm=confirm,
            wait=wait,
            label=label,
        )
        return cast("Issued | Pending", self._bound(result))

    @overload
    def enroll_csr(
        self,
        request: x509.CertificateSigningRequest | bytes,
        *,
        wait: Literal[True] = True,
        **options: Unpack[CSROptions],
    ) -> Issued: ...

    @overload
    def enroll_csr(
        self,
        request: x509.CertificateSigningRequest | bytes,
        *,
        wait: bool,
        **options: Unpack[CSROptions],
    ) -> Issued | Pending: ...

    def enroll_csr(
        self,
        request: x509.CertificateSigningRequest | bytes,
        *,
        profile: str | Sequence[str] | None = None,
        implicit_confirm: bool | None = None,
        confirm: Confirm | None = None,
        wait: bool = True,
        label: str | None = None,
    ) -> Issued | Pending:
        """A certificate for a PKCS#10 request (p10cr): ``cryptography``'s, PEM or DER. Other arguments as in ``enroll``.

        Source: OSSL_CMP_exec_certreq(3); RFC 9483, 4.1.4.
        """
        result = operations.enroll_csr(
            self._waits,
            self.context,
            request,
            profile=profile,
            implicit_confirm=implicit_confirm,
            confirm=confirm,
            wait=wait,
            label=label,
        )
        return cast("Issued | Pending", self._bound(result))

    @overload
    def update(
        self,
        certificate: CertificateSource | None = None,
        key: KeySource | None = None,
        *,
        wait: Literal[True] = True,
        **options: Unpack[UpdateOptions],
    ) -> Issued: ...

    @overload
    def update(
        self,
        certificate: CertificateSource | None = None,
        key: KeySource | None = None,
        *,
        wait: bool,
        **options: Unpack[UpdateOptions],
    ) -> Issued | Pending: ...

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
        proof: Proof | None = None,
        implicit_confirm: bool | None = None,
        confirm: Confirm | None = None,
        wait: bool = True,
        label: str | None = None,
    ) -> Issued | Pending:
        """A new certificate in place of an old one (kur).

        Args:
            certificate: the old one; by default the one we sign with, as servers ask for it.
            key: the new key, or ``generate`` makes it. Other arguments as in ``enroll``.

        Source: OSSL_CMP_exec_certreq(3); RFC 9483, 4.1.3.
        """
        result = operations.update(
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
            proof=proof,
            implicit_confirm=implicit_confirm,
            confirm=confirm,
            wait=wait,
            label=label,
        )
        return cast("Issued | Pending", self._bound(result))

    @overload
    def cross_certify(
        self,
        issuer: CertificateSource,
        certificate: CertificateSource | None = None,
        key: KeySource | None = None,
        *,
        wait: Literal[True] = True,
        **options: Unpack[CrossOptions],
    ) -> Issued: ...

    @overload
    def cross_certify(
        self,
        issuer: CertificateSource,
        certificate: CertificateSource | None = None,
        key: KeySource | None = None,
        *,
        wait: bool,
        **options: Unpack[CrossOptions],
    ) -> Issued | Pending: ...

    def cross_certify(
        self,
        issuer: CertificateSource,
        certificate: CertificateSource | None = None,
        key: KeySource | None = None,
        *,
        password: bytes | None = None,
        extensions: Iterable[x509.Extension[Any] | x509.ExtensionType] = (),
        validity: Validity = 365,
        signing_algorithm: bytes | None = None,
        implicit_confirm: bool | None = None,
        confirm: Confirm | None = None,
        wait: bool = True,
        label: str | None = None,
    ) -> Issued | Pending:
        """A certificate for a CA of ours from another CA (ccr); the context signs as the CA that asks.

        Args:
            issuer: the other CA's own certificate.
            certificate, key: of the CA that asks; by default those that the context signs with.
            extensions: wished, such as nameConstraints and the path length in basicConstraints.
            validity: wished: two moments, or days from now; a ccr always says.
            signing_algorithm: AlgorithmIdentifier (DER) that it is to be signed with; None: the one by which the other
                CA's certificate is signed, where it is self-signed.
            password, implicit_confirm, confirm, wait, label: as in ``enroll``.

        Source: RFC 9810, 5.3.11, 6.6 and appendix D.6.
        """
        result = operations.cross_certify(
            self._waits,
            self.context,
            issuer,
            certificate,
            key,
            password=password,
            extensions=extensions,
            validity=validity,
            signing_algorithm=signing_algorithm,
            implicit_confirm=implicit_confirm,
            confirm=confirm,
            wait=wait,
            label=label,
        )
        return cast("Issued | Pending", self._bound(result))

    def enroll_several(
        self, orders: Sequence[Order], *, implicit_confirm: bool | None = None, confirm: Confirm | None = None
    ) -> tuple[Outcome, ...]:
        """Several certificates by one message: outcomes in the order of the orders, and one that fails ends no other.

        What is granted is confirmed together, by one certConf, and what is put off is waited for. A journal does not know
        of it: what is not confirmed when we die is revoked by the server. Many servers take one request in a message only;
        ``enroll_many`` is for these.

        Args:
            orders: all of kind ``ir`` or all of kind ``cr``, without label and credential; either each names one profile
                or none does.
            implicit_confirm, confirm: as in ``enroll``, for all of them.

        Raises:
            Rejected: the server refused the message as a whole.

        Source: RFC 9810, 5.3.1 to 5.3.4 and 5.3.22.
        """
        return enroll_several(self._waits, self.context, orders, implicit_confirm=implicit_confirm, confirm=confirm)

    @overload
    def revoke(
        self,
        certificate: CertificateSource | None = None,
        *,
        issuer: NameSource | None = None,
        serial_number: int | None = None,
        reason: RevocationReason | None = None,
        wait: Literal[True] = True,
    ) -> Revoked: ...

    @overload
    def revoke(
        self,
        certificate: CertificateSource | None = None,
        *,
        issuer: NameSource | None = None,
        serial_number: int | None = None,
        reason: RevocationReason | None = None,
        wait: bool,
    ) -> Revoked | Pending: ...

    def revoke(
        self,
        certificate: CertificateSource | None = None,
        *,
        issuer: NameSource | None = None,
        serial_number: int | None = None,
        reason: RevocationReason | None = None,
        wait: bool = True,
    ) -> Revoked | Pending:
        """A certificate is revoked (rr); with ``RevocationReason.REMOVE_FROM_CRL``, made valid again.

        Args:
            certificate: by default the one we sign with; or name it by ``issuer`` and ``serial_number``.
            reason: why; None says unspecified, since RFC 9483 asks for a reason.
            wait: as in ``enroll``.

        Source: RFC 9810, 5.3.9; RFC 9483, 4.2.
        """
        result = operations.revoke(
            self._waits, self.context, certificate, issuer=issuer, serial_number=serial_number, reason=reason, wait=wait
        )
        return cast("Revoked | Pending", self._bound(result))

    def recover_keys(
        self,
        certificate: CertificateSource | None = None,
        *,
        issuer: NameSource | None = None,
        serial_number: int | None = None,
        subject: NameSource | None = None,
    ) -> tuple[RecoveredKey, ...]:
        """Archived private keys of ours, the newest first, each with its certificate (krr).

        Args:
            certificate: whose key is wanted, or name it by ``issuer`` and ``serial_number``; a registration authority names
                one. By default all that the server has for our credential.
            subject: keys of this subject only.

        Raises:
            Rejected: badCertID, there is none that is ours.

        Source: RFC 9810, 5.3.7 and 5.3.8.
        """
        return recover_keys(
            self._waits, self.context, certificate, issuer=issuer, serial_number=serial_number, subject=subject
        )

    @overload
    def request_info(
        self, *items: InfoItem, profile: str | Sequence[str] | None = None, wait: Literal[True] = True
    ) -> tuple[Info, ...]: ...

    @overload
    def request_info(
        self, *items: InfoItem, profile: str | Sequence[str] | None = None, wait: bool
    ) -> tuple[Info, ...] | Pending: ...

    def request_info(
        self, *items: InfoItem, profile: str | Sequence[str] | None = None, wait: bool = True
    ) -> tuple[Info, ...] | Pending:
        """The server's values for a genm.

        Args:
            items: each a dotted OID, an OID and a value (DER as bytes, or as ``opensslcmp.asn1.encode_info`` takes it), or
                an InfoTypeAndValue.
            profile: certProfile.
            wait: as in ``enroll``.

        Source: RFC 9810, 5.3.19 and 5.3.20.
        """
        result = operations.request_info(self._waits, self.context, *items, profile=profile, wait=wait)
        return cast("tuple[Info, ...] | Pending", self._bound(result))

    def resume(
        self,
        pending: Pending,
        key: KeySource | None = None,
        *,
        password: bytes | None = None,
        confirm: Confirm | None = None,
        wait: bool = True,
    ) -> Result | Pending:
        """What a ``Pending`` was about, in this process or another, on this machine or another.

        Args:
            pending: as an operation gave it, or loaded.
            key: the private key that the certificate is for; the result holds it. Needed only where the answer is
                encrypted; it may be left out when a certificate in clear is expected.
            password: opens an encrypted ``key``.
            confirm: as in ``enroll``.
            wait: ask until the server has decided; False asks once, and gives a ``Pending`` again when it has not.

        Raises:
            ValueError: it was begun with another credential, or the key is another one.
            TimedOut: its time is over.
        """
        result = operations.resume(
            self._waits, self.context, pending, key, password=password, confirm=confirm, wait=wait
        )
        return cast("Result | Pending", self._bound(result))

    def abandon(self, pending: Pending) -> None:
        """The server is told that nobody waits for this any more, and forgets it.

        Raises:
            ValueError: it was begun with another credential.
            TransportError: the server did not hear.
        """
        operations.abandon(self._waits, self.context, pending)

    def enroll_many(self, orders: Iterable[Order], *, concurrency: int = 8) -> Iterator[Outcome]:
        """Many certificates, in the order of their arrival.

        Args:
            orders: taken one by one, as threads become free; may be endless.
            concurrency: how many are worked on at one time, and how many outcomes may wait to be fetched.

        With a journal, give each order a label and the whole input may be given again after a crash: what is there is
        given out as it was, what was begun is taken up again.
        """

        def one(waits: Waits, order: Order) -> Outcome:
            return fulfil(waits, self.context, order)

        return in_threads(self._waits, one, orders, concurrency)

    def recover(
        self,
        *,
        key_password: bytes | None = None,
        credentials: Iterable[Credential] = (),
        concurrency: int = 8,
    ) -> Iterator[Outcome]:
        """What the journal has that is unfinished, taken up again: outcomes in the order of their arrival.

        Args:
            key_password: opens the key files that the journal names.
            credentials: those that orders had of their own; each entry is for the one that began it.
            concurrency: how many are worked on at one time.

        Raises:
            ValueError: the session has no journal.
        """
        if self.journal is None:
            raise ValueError("the session has no journal")

        others = [self.context.with_credential(each) for each in credentials]

        def one(waits: Waits, entry: Entry) -> Outcome:
            return take_up(waits, self.context, entry, key_password=key_password, others=others)

        return in_threads(self._waits, one, self.journal.unfinished(), concurrency)

    @overload
    def ca_certificates(self, *, wait: Literal[True] = True) -> tuple[x509.Certificate, ...]: ...

    @overload
    def ca_certificates(self, *, wait: bool) -> tuple[x509.Certificate, ...] | Pending: ...

    def ca_certificates(self, *, wait: bool = True) -> tuple[x509.Certificate, ...] | Pending:
        """The CA certificates that the server hands out (caCerts); trusting them is the caller's decision.

        Args:
            wait: as in ``enroll``.

        Source: RFC 9483, 4.3.1.
        """
        result = operations.ca_certificates(self._waits, self.context, wait=wait)
        return cast("tuple[x509.Certificate, ...] | Pending", self._bound(result))

    @overload
    def root_ca_update(
        self, root: CertificateSource | None = None, *, wait: Literal[True] = True
    ) -> RootCaUpdate | None: ...

    @overload
    def root_ca_update(self, root: CertificateSource | None = None, *, wait: bool) -> RootCaUpdate | Pending | None: ...

    def root_ca_update(
        self, root: CertificateSource | None = None, *, wait: bool = True
    ) -> RootCaUpdate | Pending | None:
        """The root that follows ``root``, verified against it; None when there is none.

        Args:
            root: the one held, by default the context's only anchor.
            wait: as in ``enroll``; what is saved names the root by its hash, so resumed elsewhere it must be in ``trusted``.

        Raises:
            ProtectionError: signerNotTrusted, the old root does not vouch for the new one.

        Source: RFC 9483, 4.3.2.
        """
        result = operations.root_ca_update(self._waits, self.context, root, wait=wait)
        return cast("RootCaUpdate | Pending | None", self._bound(result))

    @overload
    def certificate_request_template(
        self, *, profile: str | Sequence[str] | None = None, wait: Literal[True] = True
    ) -> RequestTemplate | None: ...

    @overload
    def certificate_request_template(
        self, *, profile: str | Sequence[str] | None = None, wait: bool
    ) -> RequestTemplate | Pending | None: ...

    def certificate_request_template(
        self, *, profile: str | Sequence[str] | None = None, wait: bool = True
    ) -> RequestTemplate | Pending | None:
        """What the server wants a request to hold; None when it leaves that open.

        Args:
            profile: certProfile.
            wait: as in ``enroll``.

        Source: RFC 9483, 4.3.3.
        """
        result = operations.certificate_request_template(self._waits, self.context, profile=profile, wait=wait)
        return cast("RequestTemplate | Pending | None", self._bound(result))

    @overload
    def crl_update(
        self,
        last: x509.CertificateRevocationList | bytes | None = None,
        *,
        certificate: CertificateSource | None = None,
        issuer: CertificateSource | None = None,
        wait: Literal[True] = True,
    ) -> x509.CertificateRevocationList | None: ...

    @overload
    def crl_update(
        self,
        last: x509.CertificateRevocationList | bytes | None = None,
        *,
        certificate: CertificateSource | None = None,
        issuer: CertificateSource | None = None,
        wait: bool,
    ) -> x509.CertificateRevocationList | Pending | None: ...

    def crl_update(
        self,
        last: x509.CertificateRevocationList | bytes | None = None,
        *,
        certificate: CertificateSource | None = None,
        issuer: CertificateSource | None = None,
        wait: bool = True,
    ) -> x509.CertificateRevocationList | Pending | None:
        """The CRL newer than ``last``; None when there is none.

        Its signature is verified with a certificate of its issuer: ``issuer``, or one that the context holds (anchors,
        untrusted, extra, the credential's chain), or one of the answer with a path to an anchor. Where there is none of
        these the CRL is as good as the answer that brought it: its own signature has not been verified.

        Args:
            last: the CRL held, if any.
            certificate: whose issuer's or distribution point's CRL is wanted; by default that of ``last``'s issuer.
            issuer: the CA's certificate, taken as it is; resumed elsewhere it must be in ``trusted`` or ``untrusted``.
            wait: as in ``enroll``.

        Raises:
            ProtectionError: signerNotTrusted, the CRL is not signed by its issuer.

        Source: RFC 9483, 4.3.4.
        """
        result = operations.crl_update(
            self._waits, self.context, last, certificate=certificate, issuer=issuer, wait=wait
        )
        return cast("x509.CertificateRevocationList | Pending | None", self._bound(result))

    def _bound(self, result: Any) -> Any:
        return result.bound_to(self) if isinstance(result, Pending) else result

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is held here; connections belong to the context."""


def several(transport: Any) -> list[Any]:
    """The ways to the servers, one or more.

    Raises:
        ValueError: there is none.
    """
    found = list(transport) if isinstance(transport, (list, tuple)) else [transport]
    if not found:
        raise ValueError("a session needs a transport")
    return found


def _exchange(carrier: Any) -> Callable[[bytes, float], bytes]:
    send: Callable[[bytes, float], bytes] | None = getattr(carrier, "send", None)
    if send is not None:
        return send
    if not callable(carrier):
        raise TypeError("a transport has send(), or is a function from bytes to bytes")
    return lambda request, timeout_seconds: bytes(carrier(request))
