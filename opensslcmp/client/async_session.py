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

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeVar

from cryptography import x509

from opensslcmp.client import operations
from opensslcmp.client.context import Context, NameSource
from opensslcmp.client.operations import InfoItem, Validity
from opensslcmp.client.results import Info, Issued, RequestTemplate, Revoked, RootCaUpdate
from opensslcmp.credentials import CertificateSource, KeySource
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
            default HTTP to ``context.server``, over at most ``context.max_connections`` connections of this session's own.
            What is not async runs on the event loop's thread, so it should not wait.
        sleep: how to wait between polls, async or not; by default ``anyio.sleep``.

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
        self._own = context.async_transport() if transport is None else None
        carrier = self._own or transport
        send = getattr(carrier, "send", None)
        if send is None and not callable(carrier):
            raise TypeError("a transport has send(), or is a function from bytes to bytes")
        self._greenlets = greenlets
        self._outside = greenlets.Outside(
            send or (lambda request, timeout_seconds: carrier(request)), keeps_time=send is not None
        )
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
        generate = options.get("generate")
        if generate is not None and generate.startswith("rsa") and arguments[1] is None:
            key = await self._greenlets.beside_the_loop(generate)
            arguments = (arguments[0], key, *arguments[2:])
            options["generate"] = None
        return await self._greenlets.run(outside, operation, self.context, *arguments, **options)

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
        implicit_confirm: bool | None = None,
        confirm: AsyncConfirm | None = None,
    ) -> Issued:
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
            implicit_confirm=implicit_confirm,
            confirm=confirm,
        )

    async def enroll_csr(
        self,
        request: x509.CertificateSigningRequest | bytes,
        *,
        profile: str | Sequence[str] | None = None,
        implicit_confirm: bool | None = None,
        confirm: AsyncConfirm | None = None,
    ) -> Issued:
        """``Session.enroll_csr``, awaited."""
        return await self._run(
            operations.enroll_csr, request, profile=profile, implicit_confirm=implicit_confirm, confirm=confirm
        )

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
        implicit_confirm: bool | None = None,
        confirm: AsyncConfirm | None = None,
    ) -> Issued:
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
            implicit_confirm=implicit_confirm,
            confirm=confirm,
        )

    async def revoke(
        self,
        certificate: CertificateSource | None = None,
        *,
        issuer: NameSource | None = None,
        serial_number: int | None = None,
        reason: RevocationReason | None = None,
    ) -> Revoked:
        """``Session.revoke``, awaited."""
        return await self._run(
            operations.revoke, certificate, issuer=issuer, serial_number=serial_number, reason=reason
        )

    async def request_info(self, *items: InfoItem, profile: str | Sequence[str] | None = None) -> tuple[Info, ...]:
        """``Session.request_info``, awaited."""
        return await self._run(operations.request_info, *items, profile=profile)

    async def ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """``Session.ca_certificates``, awaited."""
        return await self._run(operations.ca_certificates)

    async def root_ca_update(self, root: CertificateSource | None = None) -> RootCaUpdate | None:
        """``Session.root_ca_update``, awaited."""
        return await self._run(operations.root_ca_update, root)

    async def certificate_request_template(
        self, *, profile: str | Sequence[str] | None = None
    ) -> RequestTemplate | None:
        """``Session.certificate_request_template``, awaited."""
        return await self._run(operations.certificate_request_template, profile=profile)

    async def crl_update(
        self,
        last: x509.CertificateRevocationList | bytes | None = None,
        *,
        certificate: CertificateSource | None = None,
        issuer: CertificateSource | None = None,
    ) -> x509.CertificateRevocationList | None:
        """``Session.crl_update``, awaited."""
        return await self._run(operations.crl_update, last, certificate=certificate, issuer=issuer)

    async def aclose(self) -> None:
        """Close the connections that are the session's own; a transport given to it stays as it is."""
        if self._own is not None:
            await self._own.close()

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


_EXTRA = frozenset(("greenlet", "anyio", "sniffio"))
