"""Many certificates: orders go in, as they are needed, and outcomes come out, as they arrive.

``Session.enroll_many`` works in threads, ``AsyncSession.enroll_many`` in tasks. Both take an order from the input when there is
somebody to work on it, so the input may be endless: at most ``concurrency`` orders are worked on and as many outcomes wait to be
fetched. An order that fails is an outcome with an error; it ends nothing else. An input that raises ends the iteration, once
what was begun is finished and handed out.

Whoever stops fetching, closes the iterator, or presses Ctrl-C ends the orders under way, each where it waits next: with a
journal they are taken up again later, without one the server is told that they broke off.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from cryptography import x509

from opensslcmp.client import operations
from opensslcmp.client.context import Context, NameSource
from opensslcmp.client.exchange import Waits
from opensslcmp.client.journal import Entry
from opensslcmp.client.operations import Result, Validity
from opensslcmp.client.pending import Pending
from opensslcmp.client.results import Issued
from opensslcmp.context.protection import Protector
from opensslcmp.credentials import CertificateSource, Credential, KeySource

__all__ = ["Broken", "Order", "Outcome", "fulfil", "in_threads", "take_up"]

J = TypeVar("J")


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A certificate that is wanted. The attributes are arguments of ``Session.enroll``, ``enroll_csr`` or ``update``.

    Attributes:
        key: as in ``Session.enroll``, or a function that gives it, called by who works on the order.
        kind: ``ir``, ``cr``, ``p10cr`` (with ``request``) or ``kur`` (of ``certificate``, by default the signer's own).
        request: PKCS#10 request, for ``p10cr``.
        certificate: to be updated, for ``kur``.
        credential: who asks, when not the session's context; never shown by repr.
        wait: False gives a ``Pending`` as the outcome's result when the server puts it off.
        tag: anything of the caller's.
    """

    subject: NameSource | None = None
    key: KeySource | None = field(default=None, repr=False)
    kind: Literal["ir", "cr", "p10cr", "kur"] = "ir"
    request: x509.CertificateSigningRequest | bytes | None = field(default=None, repr=False)
    certificate: CertificateSource | None = field(default=None, repr=False)
    generate: str | None = None
    password: bytes | None = field(default=None, repr=False)
    subject_alternative_names: Sequence[x509.GeneralName] = ()
    extensions: Sequence[x509.Extension[Any] | x509.ExtensionType] = ()
    policies: Sequence[str] = ()
    validity: Validity = None
    issuer: NameSource | None = None
    profile: str | Sequence[str] | None = None
    token: str | None = field(default=None, repr=False)
    implicit_confirm: bool | None = None
    credential: Credential | Protector | None = field(default=None, repr=False)
    label: str | None = None
    wait: bool = True
    tag: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of an order, or of an entry of the journal.

    Attributes:
        order: as it was given; None for an entry of the journal.
        label: of the order or the entry.
        result: ``Issued``; a ``Pending`` where the order does not wait; for an entry also ``Revoked``. None when it failed.
        error: why it failed.
    """

    order: Order | None = None
    label: str | None = None
    result: Result | Pending | None = None
    error: Exception | None = None

    @property
    def certificate(self) -> x509.Certificate | None:
        """The new certificate; None when there is none."""
        return self.result.certificate if isinstance(self.result, Issued) else None


class Broken(BaseException):
    """Raised where an order under way waits, when nobody wants its outcome any more."""


def fulfil(waits: Waits, context: Context, order: Order) -> Outcome:
    """The outcome of one order. Raises only what is no ``Exception``."""
    try:
        if order.credential is not None:
            context = context.with_credential(order.credential)
        key = order.key() if callable(order.key) else order.key
        result: Issued | Pending
        if order.kind == "p10cr":
            if order.request is None:
                raise ValueError("a p10cr needs the request")
            result = operations.enroll_csr(
                waits,
                context,
                order.request,
                profile=order.profile,
                implicit_confirm=order.implicit_confirm,
                wait=order.wait,
                label=order.label,
            )
        elif order.kind == "kur":
            result = operations.update(
                waits,
                context,
                order.certificate,
                key,
                generate=order.generate,
                password=order.password,
                subject=order.subject,
                subject_alternative_names=order.subject_alternative_names,
                extensions=order.extensions,
                policies=order.policies,
                validity=order.validity,
                profile=order.profile,
                implicit_confirm=order.implicit_confirm,
                wait=order.wait,
                label=order.label,
            )
        else:
            result = operations.enroll(
                waits,
                context,
                order.subject,
                key,
                kind=order.kind,
                generate=order.generate,
                password=order.password,
                subject_alternative_names=order.subject_alternative_names,
                extensions=order.extensions,
                policies=order.policies,
                validity=order.validity,
                issuer=order.issuer,
                profile=order.profile,
                token=order.token,
                implicit_confirm=order.implicit_confirm,
                wait=order.wait,
                label=order.label,
            )
    except Exception as error:
        return Outcome(order=order, label=order.label, error=error)
    return Outcome(order=order, label=order.label, result=result)


def take_up(
    waits: Waits,
    context: Context,
    entry: Entry,
    *,
    key_password: bytes | None = None,
    others: Sequence[Context] = (),
) -> Outcome:
    """The outcome of an entry of the journal, by the context or one of ``others``. Raises only what is no ``Exception``."""
    try:
        context = operations.context_of(entry, (context, *others))
        result = operations.resume_entry(waits, context, entry, password=key_password)
    except Exception as error:
        return Outcome(label=entry.label, error=error)
    return Outcome(label=entry.label, result=result)


class _Breakable:
    """The seams of an order, which end it once ``stop`` is set; its last word to the server still gets through."""

    __slots__ = ("_stop", "_told", "_waits")

    def __init__(self, waits: Waits, stop: threading.Event) -> None:
        self._waits = waits
        self._stop = stop
        self._told = False

    def _break(self) -> None:
        if not self._told:
            self._told = True
            raise Broken

    def waits(self) -> Waits:
        first, *others = [self._way(number) for number in range(1 + len(self._waits.others))]
        return replace(self._waits, exchange=first, others=tuple(others), sleep=self._sleep)

    def _way(self, server: int) -> Callable[[bytes, float], bytes]:
        def exchange(request: bytes, timeout_seconds: float) -> bytes:
            if self._stop.is_set():
                self._break()
            return self._waits.to(server, request, timeout_seconds)

        return exchange

    def _sleep(self, seconds: float) -> None:
        if self._waits.sleep is time.sleep:
            self._stop.wait(seconds)
        else:
            self._waits.sleep(seconds)
        if self._stop.is_set():
            self._break()


_END = object()


def in_threads(
    waits: Waits, fulfil_one: Callable[[Waits, J], Outcome], jobs: Iterable[J], concurrency: int
) -> Iterator[Outcome]:
    """Outcomes in the order of their arrival, by ``concurrency`` threads.

    Raises:
        ValueError: ``concurrency`` is less than 1.
        Exception: what ``jobs`` raises, after the outcomes of what was begun.
    """
    if concurrency < 1:
        raise ValueError("concurrency must be at least 1")
    return _in_threads(waits, fulfil_one, iter(jobs), concurrency)


def _in_threads(
    waits: Waits, fulfil_one: Callable[[Waits, J], Outcome], jobs: Iterator[J], concurrency: int
) -> Iterator[Outcome]:
    stop = threading.Event()
    taking = threading.Lock()
    exhausted = False
    outcomes: queue.Queue[Any] = queue.Queue(maxsize=concurrency)

    def take() -> Any:
        nonlocal exhausted
        with taking:
            if exhausted or stop.is_set():
                return _END
            try:
                return next(jobs)
            except StopIteration:
                exhausted = True
                return _END
            except BaseException as error:
                exhausted = True
                outcomes.put(error)
                return _END

    def work() -> None:
        try:
            while (job := take()) is not _END:
                outcome = fulfil_one(_Breakable(waits, stop).waits(), job)
                outcomes.put(outcome)
        except Broken:
            pass
        finally:
            outcomes.put(_END)

    threads: list[threading.Thread] = []
    ended = 0
    failure: BaseException | None = None
    try:
        for number in range(concurrency):
            # A daemon: whoever does not wait for what is under way, by a second Ctrl-C, need not.
            thread = threading.Thread(target=work, daemon=True, name=f"opensslcmp-enroll-{number}")
            thread.start()
            threads.append(thread)
            if exhausted:
                break
        while ended < len(threads):
            outcome = outcomes.get()
            if outcome is _END:
                ended += 1
            elif isinstance(outcome, Outcome):
                yield outcome
            else:
                failure = outcome
        if failure is not None:
            raise failure
    finally:
        stop.set()
        while ended < len(threads):
            ended += outcomes.get() is _END
        for thread in threads:
            thread.join()  # it has said its last word
