"""``AsyncSession``: ``Session`` for asyncio and trio, thousands of transactions in one thread.

>>> import asyncio
>>> from opensslcmp import AsyncSession, Context, SharedSecret
>>> context = Context("http://ca.example/.well-known/cmp", credential=SharedSecret("device-17", "secret"))
>>> async def first_certificate():
...     async with AsyncSession(context) as session:
...         return await session.enroll("CN=device-17", generate="ec:P-256")

The operations are those of ``Session``, the same code: ``greenlets.py`` tells how it waits. Needs ``greenlet`` and ``anyio``,
the extra ``async``.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeVar, Unpack, cast, overload

from cryptography import x509

from opensslcmp.asn1 import AttributeTypeAndValue
from opensslcmp.client import operations
from opensslcmp.client.bulk import Order, Outcome, fulfil, take_up
from opensslcmp.client.context import Context, NameSource
from opensslcmp.client.journal import Journal
from opensslcmp.client.operations import (
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
from opensslcmp.client.session import several
from opensslcmp.client.several import enroll_several
from opensslcmp.credentials import CertificateSource, Credential, KeySource
from opensslcmp.enums import RevocationReason

__all__ = ["AsyncConfirm", "AsyncSession"]

T = TypeVar("T")

AsyncConfirm: TypeAlias = Callable[[Issued], Awaitable[None] | None]
"""``Confirm``, which may be an async function as well."""


class AsyncSession:
    """Runs transactions with a server, any number at once, in one event loop at a time.

    Args:
        context: who, whom and how.
        transport: something with ``send(request, timeout_seconds)``, or a function from bytes to bytes, async or not. By
            default HTTP to ``context.servers``, over at most ``context.max_connections`` connections of this session's own to
            each. What is not async runs on the event loop's thread, so it should not wait. Or several, as for ``Session``.
        sleep: how to wait between polls, async or not; by default ``anyio.sleep``.
        journal: as for ``Session``; written in a thread, many entries with one fsync.

    An operation takes and gives what it does on ``Session``, and raises the same; ``confirm`` may be async. A cancelled
    operation tells the server that it broke off, within 5 seconds, and then ends as cancelled. RSA keys are made in a
    thread.

    Raises:
        ImportError: greenlet or anyio is missing.
    """

    def __init__(
        self,
        context: Context,
        transport: Any = None,
        *,
        sleep: Callable[[float], Awaitable[None] | None] | None = None,
        journal: Journal | None = None,
    ) -> None:
        try:
            from opensslcmp.client import greenlets
        except ImportError as error:
            if error.name not in _EXTRA:
                raise
            raise ImportError(
                "AsyncSession needs greenlet and anyio: pip install 'opensslcmp[async]'", name=error.name
            ) from error
        self.context = context
        self.journal = journal
        self._own: Sequence[Any] = context.async_transports() if transport is None else ()
        ways = []
        for carrier in self._own or several(transport):
            send = getattr(carrier, "send", None)
            if send is None and not callable(carrier):
                raise TypeError("a transport has send(), or is a function from bytes to bytes")
            ways.append(greenlets.Way(send or _Function(carrier), keeps_time=send is not None))
        self._greenlets = greenlets
        self._outside = greenlets.Outside(tuple(ways), journal=None if journal is None else greenlets.Writer(journal))
        if sleep is not None:
            self._outside = replace(self._outside, sleep=sleep)

    async def _run(
        self, operation: Callable[..., T], *arguments: Any, confirm: AsyncConfirm | None = None, **options: Any
    ) -> T:
        """The operation in a greenlet, its ``confirm`` called outside."""
        outside = self._outside
        if confirm is not None:
            outside = replace(outside, confirm=confirm)
            options["confirm"] = self._greenlets.ask_to_confirm
        running = self._greenlets.run(outside, operation, self.context, *arguments, **options)
        del arguments, options  # half a kB each, for as long as it waits
        result = await running
        return cast("T", result.bound_to(self)) if isinstance(result, Pending) else result

    @overload
    async def enroll(
        self,
        subject: NameSource | None = None,
        key: KeySource | None = None,
        *,
        wait: Literal[True] = True,
        **options: Unpack[EnrollOptions],
    ) -> Issued: ...

    @overload
    async def enroll(
        self,
        subject: NameSource | None = None,
        key: KeySource | None = None,
        *,
        wait: bool,
        **options: Unpack[EnrollOptions],
    ) -> Issued | Pending: ...

    async def enroll(
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
        confirm: AsyncConfirm | None = None,
        wait: bool = True,
        label: str | None = None,
    ) -> Issued | Pending:
        """``Session.enroll``, awaited."""
        return await self._run(
            operations.enroll,
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

    @overload
    async def enroll_csr(
        self,
        request: x509.CertificateSigningRequest | bytes,
        *,
        wait: Literal[True] = True,
        **options: Unpack[CSROptions],
    ) -> Issued: ...

    @overload
    async def enroll_csr(
        self,
        request: x509.CertificateSigningRequest | bytes,
        *,
        wait: bool,
        **options: Unpack[CSROptions],
    ) -> Issued | Pending: ...

    async def enroll_csr(
        self,
        request: x509.CertificateSigningRequest | bytes,
        *,
        profile: str | Sequence[str] | None = None,
        implicit_confirm: bool | None = None,
        confirm: AsyncConfirm | None = None,
        wait: bool = True,
        label: str | None = None,
    ) -> Issued | Pending:
        """``Session.enroll_csr``, awaited."""
        return await self._run(
            operations.enroll_csr,
            request,
            profile=profile,
            implicit_confirm=implicit_confirm,
            confirm=confirm,
            wait=wait,
            label=label,
        )

    @overload
    async def update(
        self,
        certificate: CertificateSource | None = None,
        key: KeySource | None = None,
        *,
        wait: Literal[True] = True,
        **options: Unpack[UpdateOptions],
    ) -> Issued: ...

    @overload
    async def update(
        self,
        certificate: CertificateSource | None = None,
        key: KeySource | None = None,
        *,
        wait: bool,
        **options: Unpack[UpdateOptions],
    ) -> Issued | Pending: ...

    async def update(
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
        confirm: AsyncConfirm | None = None,
        wait: bool = True,
        label: str | None = None,
    ) -> Issued | Pending:
        """``Session.update``, awaited."""
        return await self._run(
            operations.update,
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

    @overload
    async def cross_certify(
        self,
        issuer: CertificateSource,
        certificate: CertificateSource | None = None,
        key: KeySource | None = None,
        *,
        wait: Literal[True] = True,
        **options: Unpack[CrossOptions],
    ) -> Issued: ...

    @overload
    async def cross_certify(
        self,
        issuer: CertificateSource,
        certificate: CertificateSource | None = None,
        key: KeySource | None = None,
        *,
        wait: bool,
        **options: Unpack[CrossOptions],
    ) -> Issued | Pending: ...

    async def cross_certify(
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
        confirm: AsyncConfirm | None = None,
        wait: bool = True,
        label: str | None = None,
    ) -> Issued | Pending:
        """``Session.cross_certify``, awaited."""
        return await self._run(
            operations.cross_certify,
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

    async def enroll_several(
        self, orders: Sequence[Order], *, implicit_confirm: bool | None = None, confirm: AsyncConfirm | None = None
    ) -> tuple[Outcome, ...]:
        """``Session.enroll_several``, awaited."""
        return await self._run(enroll_several, orders, implicit_confirm=implicit_confirm, confirm=confirm)

    @overload
    async def revoke(
        self,
        certificate: CertificateSource | None = None,
        *,
        issuer: NameSource | None = None,
        serial_number: int | None = None,
        reason: RevocationReason | None = None,
        wait: Literal[True] = True,
    ) -> Revoked: ...

    @overload
    async def revoke(
        self,
        certificate: CertificateSource | None = None,
        *,
        issuer: NameSource | None = None,
        serial_number: int | None = None,
        reason: RevocationReason | None = None,
        wait: bool,
    ) -> Revoked | Pending: ...

    async def revoke(
        self,
        certificate: CertificateSource | None = None,
        *,
        issuer: NameSource | None = None,
        serial_number: int | None = None,
        reason: RevocationReason | None = None,
        wait: bool = True,
    ) -> Revoked | Pending:
        """``Session.revoke``, awaited."""
        return await self._run(
            operations.revoke, certificate, issuer=issuer, serial_number=serial_number, reason=reason, wait=wait
        )

    async def recover_keys(
        self,
        certificate: CertificateSource | None = None,
        *,
        issuer: NameSource | None = None,
        serial_number: int | None = None,
        subject: NameSource | None = None,
    ) -> tuple[RecoveredKey, ...]:
        """``Session.recover_keys``, awaited."""
        return await self._run(recover_keys, certificate, issuer=issuer, serial_number=serial_number, subject=subject)

    @overload
    async def request_info(
        self, *items: InfoItem, profile: str | Sequence[str] | None = None, wait: Literal[True] = True
    ) -> tuple[Info, ...]: ...

    @overload
    async def request_info(
        self, *items: InfoItem, profile: str | Sequence[str] | None = None, wait: bool
    ) -> tuple[Info, ...] | Pending: ...

    async def request_info(
        self, *items: InfoItem, profile: str | Sequence[str] | None = None, wait: bool = True
    ) -> tuple[Info, ...] | Pending:
        """``Session.request_info``, awaited."""
        return await self._run(operations.request_info, *items, profile=profile, wait=wait)

    async def resume(
        self,
        pending: Pending,
        key: KeySource | None = None,
        *,
        password: bytes | None = None,
        confirm: AsyncConfirm | None = None,
        wait: bool = True,
    ) -> Result | Pending:
        """``Session.resume``, awaited."""
        return await self._run(operations.resume, pending, key, password=password, confirm=confirm, wait=wait)

    async def abandon(self, pending: Pending) -> None:
        """``Session.abandon``, awaited."""
        await self._run(operations.abandon, pending)

    def enroll_many(
        self, orders: Iterable[Order] | AsyncIterable[Order], *, concurrency: int = 8
    ) -> AsyncIterator[Outcome]:
        """``Session.enroll_many`` in tasks; the orders may come from an async iterable.

        To stop early, leave an ``async with contextlib.aclosing(...)``, or the orders under way go on until the iterator is
        collected.
        """
        return self._greenlets.in_tasks(self._outside, fulfil, self.context, orders, concurrency)

    def recover(
        self,
        *,
        key_password: bytes | None = None,
        credentials: Iterable[Credential] = (),
        concurrency: int = 8,
    ) -> AsyncIterator[Outcome]:
        """``Session.recover`` in tasks."""
        if self.journal is None:
            raise ValueError("the session has no journal")
        others = [self.context.with_credential(each) for each in credentials]
        one = partial(take_up, key_password=key_password, others=others)
        return self._greenlets.in_tasks(self._outside, one, self.context, self.journal.unfinished(), concurrency)

    @overload
    async def ca_certificates(self, *, wait: Literal[True] = True) -> tuple[x509.Certificate, ...]: ...

    @overload
    async def ca_certificates(self, *, wait: bool) -> tuple[x509.Certificate, ...] | Pending: ...

    async def ca_certificates(self, *, wait: bool = True) -> tuple[x509.Certificate, ...] | Pending:
        """``Session.ca_certificates``, awaited."""
        return await self._run(operations.ca_certificates, wait=wait)

    @overload
    async def root_ca_update(
        self, root: CertificateSource | None = None, *, wait: Literal[True] = True
    ) -> RootCaUpdate | None: ...

    @overload
    async def root_ca_update(
        self, root: CertificateSource | None = None, *, wait: bool
    ) -> RootCaUpdate | Pending | None: ...

    async def root_ca_update(
        self, root: CertificateSource | None = None, *, wait: bool = True
    ) -> RootCaUpdate | Pending | None:
        """``Session.root_ca_update``, awaited."""
        return await self._run(operations.root_ca_update, root, wait=wait)

    @overload
    async def certificate_request_template(
        self, *, profile: str | Sequence[str] | None = None, wait: Literal[True] = True
    ) -> RequestTemplate | None: ...

    @overload
    async def certificate_request_template(
        self, *, profile: str | Sequence[str] | None = None, wait: bool
    ) -> RequestTemplate | Pending | None: ...

    async def certificate_request_template(
        self, *, profile: str | Sequence[str] | None = None, wait: bool = True
    ) -> RequestTemplate | Pending | None:
        """``Session.certificate_request_template``, awaited."""
        return await self._run(operations.certificate_request_template, profile=profile, wait=wait)

    @overload
    async def crl_update(
        self,
        last: x509.CertificateRevocationList | bytes | None = None,
        *,
        certificate: CertificateSource | None = None,
        issuer: CertificateSource | None = None,
        wait: Literal[True] = True,
    ) -> x509.CertificateRevocationList | None: ...

    @overload
    async def crl_update(
        self,
        last: x509.CertificateRevocationList | bytes | None = None,
        *,
        certificate: CertificateSource | None = None,
        issuer: CertificateSource | None = None,
        wait: bool,
    ) -> x509.CertificateRevocationList | Pending | None: ...

    async def crl_update(
        self,
        last: x509.CertificateRevocationList | bytes | None = None,
        *,
        certificate: CertificateSource | None = None,
        issuer: CertificateSource | None = None,
        wait: bool = True,
    ) -> x509.CertificateRevocationList | Pending | None:
        """``Session.crl_update``, awaited."""
        return await self._run(operations.crl_update, last, certificate=certificate, issuer=issuer, wait=wait)

    async def aclose(self) -> None:
        """Close the connections that are the session's own; a transport given to it stays as it is."""
        for transport in self._own:
            await transport.close()

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class _Function:
    """A function from bytes to bytes as ``send``."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[bytes], Any]) -> None:
        self._function = function

    def __call__(self, request: bytes, timeout_seconds: float) -> Any:
        return self._function(request)


_EXTRA = frozenset(("greenlet", "anyio", "sniffio"))
