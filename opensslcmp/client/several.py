"""Several certificates by one message: an ir or cr with as many requests, each of which has an answer of its own.

The server may grant some, reject some, and put others off (RFC 9810, 5.3.22). What it grants in one message is confirmed by
one certConf, in which we may refuse some; what waits is polled for, and comes in further messages of the same kind.

Source: RFC 9810, 5.3.1 to 5.3.4, 5.3.18 and 5.3.22.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from opensslcmp.asn1 import CertRepMessage, CertResponse, Null, PollReq, encode_info, oids, wrap
from opensslcmp.client.acceptance import Asked, asked
from opensslcmp.client.bulk import Order, Outcome
from opensslcmp.client.context import Context
from opensslcmp.client.exchange import Answer, Transaction, Waits, raise_unless_granted
from opensslcmp.client.operations import Confirm, cert_profile, confirmation, enrollment_request, judged
from opensslcmp.client.pending import Pending
from opensslcmp.client.request import BY_DECRYPTION, is_built_here, one_request
from opensslcmp.client.results import Issued
from opensslcmp.context.enrollment import EnrollmentRequest
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.errors import BadMessage, CMPError, Rejected

__all__ = ["enroll_several"]

_ANSWERS = {BodyType.IR: BodyType.IP, BodyType.CR: BodyType.CP}
_WHOLE = -1


def enroll_several(
    waits: Waits,
    context: Context,
    orders: Sequence[Order],
    *,
    implicit_confirm: bool | None = None,
    confirm: Confirm | None = None,
) -> tuple[Outcome, ...]:
    """One ir or cr for all orders. ``Session.enroll_several`` documents the arguments."""
    kinds = {each.kind for each in orders}
    if kinds not in ({"ir"}, {"cr"}):
        raise ValueError("all of the orders are ir, or all are cr, and there is one at least")
    for each in orders:
        if each.label is not None or each.credential is not None or not each.wait:
            raise ValueError("an order of several in one message has no label, no credential, and waits")
    profiles = [each.profile for each in orders]
    if any(profiles) and not all(isinstance(each, str) for each in profiles):
        raise ValueError("each of the orders names one profile, or none does")
    requests = [_request(waits, context, each) for each in orders]
    ask = context.implicit_confirm if implicit_confirm is None else implicit_confirm
    info = [encode_info(oids.IT_IMPLICIT_CONFIRM, Null())] if ask else []
    info += cert_profile([str(each) for each in profiles] if any(profiles) else None)
    with Transaction(replace(waits, journal=None, record=None), context) as transaction:
        work = _Several(transaction, context, requests, ask, confirm)
        try:
            work.run(requests[0].body_type, info)
        except CMPError as error:
            if not any(work.found):
                raise
            # What is here already is not lost.
            transaction.give_up(error)
            work.found = [error if each is None else each for each in work.found]
    return tuple(
        Outcome(order=order, result=found if isinstance(found, Issued) else None, error=_error(found))
        for order, found in zip(orders, work.found, strict=True)
    )


def _error(found: Issued | Exception | None) -> Exception | None:
    return found if isinstance(found, Exception) else None


def _request(waits: Waits, context: Context, order: Order) -> EnrollmentRequest:
    request = enrollment_request(
        waits,
        context,
        order.subject,
        order.key() if callable(order.key) else order.key,
        kind=order.kind,
        generate=order.generate,
        password=order.password,
        subject_alternative_names=order.subject_alternative_names,
        extensions=order.extensions,
        policies=order.policies,
        validity=order.validity,
        issuer=order.issuer,
        token=order.token,
    )
    if not is_built_here(request) or request.popo in BY_DECRYPTION:
        raise ValueError("several requests in one message are proven by signature or raVerified")
    if request.central is not None:
        raise ValueError("a request for a key that the server makes stands alone in its message")
    return request


class _Several:
    """What is under way: ``found`` has an ``Issued`` or an error for each request, once it is there."""

    def __init__(
        self,
        transaction: Transaction,
        context: Context,
        requests: Sequence[EnrollmentRequest],
        implicit: bool,
        confirm: Confirm | None,
    ) -> None:
        self._transaction = transaction
        self._context = context
        self._requests = requests
        self._implicit = implicit
        self._confirm = confirm
        self._waiting = set(range(len(requests)))
        self.found: list[Issued | Exception | None] = [None] * len(requests)

    def run(self, kind: BodyType, info: Any) -> None:
        """From the message to the last confirmation."""
        transaction, final = self._transaction, _ANSWERS[kind]
        body = wrap(0x30, b"".join(one_request(each, number) for number, each in enumerate(self._requests)))
        answer = transaction.ask(kind, body, frozenset((final,)), info)
        whole = False
        while True:
            after = 0
            if answer.message.body_type is final:
                whole = False
                self._take(answer)
            elif answer.message.body_type is BodyType.POLL_REP:
                after = min([each.check_after for each in answer.content], default=0)
            else:
                whole = True  # an error message with "waiting", for all of them
            if not self._waiting:
                break
            transaction.wait(after)
            numbers = [_WHOLE] if whole else sorted(self._waiting)
            polled = [PollReq(cert_req_id=each) for each in numbers]
            answer = transaction.ask(BodyType.POLL_REQ, polled, frozenset((final, BodyType.POLL_REP)))
        transaction.close()

    def _take(self, answer: Answer) -> None:
        """What one ip or cp says, and the confirmation of what it brings."""
        content: CertRepMessage = answer.content
        numbers = [each.cert_req_id for each in content.response]
        if len(set(numbers)) < len(numbers) or not set(numbers) <= self._waiting:
            raise BadMessage(
                FailureInfo.BAD_REQUEST, "the answer is about requests that nobody waits for, or twice about one"
            )
        statuses = []
        for response in content.response:
            if response.status.status == PKIStatus.WAITING:
                continue
            number = response.cert_req_id
            self._waiting.discard(number)
            try:
                certificate = _granted(response)
            except (Rejected, BadMessage) as error:
                self.found[number] = error
                continue
            alone = replace(answer, content=CertRepMessage(ca_pubs=content.ca_pubs, response=[response]))
            issued, refusal = self._judge(number, alone, certificate)
            self.found[number] = issued if refusal is None else refusal
            library = self._context.library
            statuses.append(confirmation(certificate, issued.certificate, number, refusal, library))
        if not statuses or self._context.disable_confirm:
            return
        if self._implicit and answer.message.implicit_confirm:
            for each in statuses:
                found = self.found[each.cert_req_id]
                if isinstance(found, Issued):
                    self.found[each.cert_req_id] = replace(found, implicitly_confirmed=True)
            return
        pvno = 2 if all(each.hash_alg is None for each in statuses) else 3
        try:
            self._transaction.round_trip(BodyType.CERT_CONF, statuses, pvno=pvno)
        except CMPError as error:
            for each in statuses:
                self.found[each.cert_req_id] = error
            raise

    def _judge(self, number: int, answer: Answer, certificate: bytes) -> tuple[Issued, Exception | None]:
        request = self._requests[number]
        wanted = asked(request) if self._context.check_certificate else Asked()
        pending = Pending(
            kind=request.body_type,
            public_key=request.key.public_key_der if request.key is not None else None,
            subject=wanted.subject,
            names=wanted.names,
            begins=wanted.begins,
            popo=request.popo,
        )
        transaction_id = self._transaction.transaction_id
        return judged(self._context, pending, answer, certificate, request.key, transaction_id, self._confirm)


def _granted(response: CertResponse) -> bytes:
    """The certificate.

    Raises:
        Rejected: there is none.
        BadMessage: it was granted, and is not in clear.
    """
    raise_unless_granted(response.status)
    if response.certificate is None:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "the answer holds no certificate in clear")
    return response.certificate
