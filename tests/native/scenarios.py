"""What the tests of leaks, of greenlets and of AddressSanitizer run, each on its own and again and again."""

import asyncio
import gc
import logging
import random
import threading
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import greenlet

from opensslcmp._native import lib
from opensslcmp.context.client import ClientContext
from opensslcmp.context.message import NativeMessage
from opensslcmp.context.server import CertificateAnswer, ServerContext
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage, CMPError, OpenSSLError, Rejected
from tests import native_peers as peers

Switched = tuple["Enrollment", bytes]


def fails(kind: type[BaseException], function: Callable[[], object]) -> None:
    """Run a function that must raise ``kind`` and leave the error queue empty."""
    try:
        function()
    except kind:
        assert lib.ERR_peek_error() == 0
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


def raising(error: BaseException) -> Callable[..., Any]:
    """A callback that raises."""

    def callback(*_args: object) -> Any:
        raise error

    return callback


EXTENSIONS = bytes.fromhex("300e300c0603551d1104053003820178")

peers.server_party(), peers.device_party()  # made before there are threads

# Plain ones


def contexts() -> None:
    """Everything that is owned, made and dropped."""
    root, device = peers.root(), peers.device_party()
    context = ClientContext()
    context.certificate = context.pinned_server = context.old_certificate = device.der
    context.subject = context.issuer = context.recipient = context.expected_sender = peers.name("x").public_bytes()
    context.set_key(device.key_der)
    context.set_new_key(device.key_der)
    context.trust([root.der])
    context.trust([root.der], partial_chain=True)
    context.untrusted = [root.der]
    context.set_extra_certs([root.der])
    context.reference, context.secret = b"r", b"s"
    context.add_subject_alt_name(b"\x82\x01x")
    context.add_policy(bytes.fromhex("300606042a030405"))
    context.add_general_info(bytes.fromhex("300806042a0304050500"))
    context.add_info_request(bytes.fromhex("300806042a0304050500"))
    context.set_transaction_id(bytes(16))
    fails(OpenSSLError, lambda: context.set_request_extensions(EXTENSIONS))  # a second source of names
    other = ClientContext()
    for _ in range(2):
        other.set_request_extensions(EXTENSIONS)
    context.require_trusted_certificate([root.der])
    assert context.untrusted
    assert context.setup_request()
    fails(OpenSSLError, lambda: setattr(context, "certificate", b"\x30\x00"))
    fails(OpenSSLError, lambda: context.trust([b"\x30\x00"]))
    fails(OpenSSLError, lambda: context.add_general_info(b"\x30\x00"))
    context.close()
    ServerContext().close()


def _enroll(mac: bool) -> None:
    client, _server, _ca = peers.make_pair(mac=mac)
    client.request_certificate(BodyType.IR)
    assert client.extra_certs
    assert client.new_certificate
    _ = client.new_chain, client.ca_certificates, client.status_text, client.status_line


def enroll_with_mac() -> None:
    """A whole enrollment."""
    _enroll(True)


def enroll_with_signature() -> None:
    """A whole enrollment."""
    _enroll(False)


def revoke_and_inform() -> None:
    """The other operations."""
    client, _server, _ca = peers.make_pair()
    client.old_certificate = peers.device_party().der
    client.revoke()
    client, _server, _ca = peers.make_pair()
    client.add_info_request(bytes.fromhex("300a06082b06010505070401"))
    client.add_info_request(bytes.fromhex("300806042a0304050500"))
    assert client.request_info()
    client, _server, ca = peers.make_pair()
    ca.waits = 2
    client.try_certificate(BodyType.IR)
    client.try_certificate(BodyType.IR)
    client.abort()


def callbacks_that_raise() -> None:
    """Each callback raises once."""
    for error in (KeyError("x"), KeyboardInterrupt()):
        client = peers.make_client(raising(error), peers.CA())
        fails(type(error), lambda client=client: client.request_certificate(BodyType.IR))  # type: ignore[misc]
    client, _server, _ca = peers.make_pair(confirm=raising(Rejected(FailureInfo.BAD_CERT_TEMPLATE, "no")))
    fails(Rejected, lambda: client.request_certificate(BodyType.IR))
    for kind in ("certificate", "confirmation"):
        client, server, _ca = peers.make_pair()
        setattr(server, f"_{kind}", raising(KeyError("y")))
        fails(KeyError, lambda client=client: client.request_certificate(BodyType.IR))  # type: ignore[misc]
    client, server, _ca = peers.make_pair()
    server._info = raising(KeyError("z"))
    client.add_info_request(bytes.fromhex("300806042a0304050500"))
    fails(KeyError, client.request_info)


def nonsense() -> None:
    """The peer and the callbacks return what they should not."""
    for answer in (b"", b"junk", b"\x30\x00"):
        client = peers.make_client(lambda _request, answer=answer: answer, peers.CA())  # type: ignore[misc]
        fails(BadMessage, lambda client=client: client.request_certificate(BodyType.IR))  # type: ignore[misc]
        client = peers.make_client(lambda _request, answer=answer: answer, peers.CA(), guard=False)  # type: ignore[misc]
        fails(OpenSSLError, lambda client=client: client.request_certificate(BodyType.IR))  # type: ignore[misc]
    for made in (
        CertificateAnswer(certificate=b"\x30\x00"),
        CertificateAnswer(certificate=peers.device_party().der, chain=[peers.root().der, b"x"]),
        CertificateAnswer(certificate=peers.device_party().der, ca_certificates=[peers.root().der, b"x"]),
    ):
        client, server, _ca = peers.make_pair()
        server._certificate = raising(AssertionError()) if made is None else lambda *_args, made=made: made
        fails(CMPError, lambda client=client: client.request_certificate(BodyType.IR))  # type: ignore[misc]


def messages() -> None:
    """NativeMessage and its two protections."""
    sent: list[bytes] = []
    client = peers.make_client(lambda request: sent.append(request) or b"", peers.CA())  # type: ignore[func-returns-value]
    fails(BadMessage, lambda: client.request_certificate(BodyType.IR))
    message = NativeMessage(sent[0])
    message.copy().update_transaction_id(peers.make_client(None, peers.CA(), mac=False))
    message.update_recip_nonce(peers.make_client(None, peers.CA()))
    message.validate(peers.make_client(None, peers.CA()))
    fails(CMPError, lambda: message.validate(ClientContext()))


# Greenlets. No frame that sleeps in one may refer to the greenlet itself, not even as an argument of ``switch``: Python's
# collector does not see the frames of a sleeping greenlet, so such a circle would live for ever.


def work(ca: peers.CA, mac: bool, guard: bool) -> bytes:
    """An enrollment that waits for its answers in the parent greenlet: it switches with ``(request,)``."""
    hub = greenlet.getcurrent().parent
    # Only this frame keeps the client.
    client = peers.make_client(lambda request: wait(hub, request), ca, mac=mac, guard=guard)
    contexts_alive.add(client)
    return client.request_certificate(BodyType.IR)


def wait(hub: Any, request: bytes) -> bytes:
    """Switch away with the queue empty while C waits below, and come back with an answer."""
    assert lib.ERR_peek_error() == 0
    answer: bytes = hub.switch((request,))
    return answer


class Enrollment:
    """The hub's side: a greenlet and the server that it asks."""

    def __init__(self, *, mac: bool = True, guard: bool = True) -> None:
        ca = peers.CA()
        self.server = peers.make_server(ca, mac=mac)
        self.greenlet = greenlet.greenlet(partial(work, ca, mac, guard))

    def switch(self, *answer: bytes) -> Any:
        """Start it, or go on with an answer: ``(self, request)``, or the certificate."""
        return self._result(self.greenlet.switch(*answer))

    def throw(self, error: BaseException | None = None) -> Any:
        """The same with an exception, GreenletExit unless given."""
        return self._result(self.greenlet.throw(error or greenlet.GreenletExit()))

    def _result(self, result: Any) -> Any:
        return (self, result[0]) if isinstance(result, tuple) else result


contexts_alive: "weakref.WeakSet[ClientContext]" = weakref.WeakSet()


def started(count: int) -> list[Switched]:
    """``count`` enrollments that have sent their first request."""
    return [Enrollment(mac=number % 4 != 0).switch() for number in range(count)]


def interleaved(count: int = 100) -> int:
    """``count`` enrollments in flight in one thread, answered in no order; how many got a certificate of their own."""
    waiting = started(count)
    assert len(contexts_alive) >= count
    chance = random.Random(count)
    certificates = set()
    while waiting:
        enrollment, request = waiting.pop(chance.randrange(len(waiting)))
        result = enrollment.switch(enrollment.server.process(request))
        if isinstance(result, tuple):
            waiting.append(result)
        else:
            certificates.add(result)
    return len(certificates)


def interleaved_few() -> None:
    """For counting leaks."""
    assert interleaved(8) == 8
    del_left()


def del_left() -> None:
    """Nothing may be left alive."""
    gc.collect()
    gc.collect()  # what a finalizer ran in the first pass, a task's say, has let go of
    assert len(contexts_alive) == 0, list(contexts_alive)


def cancelled() -> None:
    """Sleeping enrollments are thrown an exception."""
    for enrollment, _request in started(8):
        fails(asyncio.CancelledError, lambda enrollment=enrollment: enrollment.throw(asyncio.CancelledError()))  # type: ignore[misc]
        assert enrollment.greenlet.dead
    del enrollment, _request
    del_left()


def forgotten() -> None:
    """Sleeping enrollments lose their last reference."""
    waiting = started(8)
    assert len(contexts_alive) == 8
    waiting.clear()
    del_left()


def forgotten_after_an_answer() -> None:
    """The same with certConf on its way: C has the new certificate by then."""
    waiting = [enrollment.switch(enrollment.server.process(request)) for enrollment, request in started(4)]
    waiting.clear()
    del_left()


def killed() -> None:
    """GreenletExit ends a sleeping enrollment; it is not an error to the one who throws."""
    for enrollment, _request in started(4):
        result = enrollment.throw()
        assert isinstance(result, greenlet.GreenletExit)
    del enrollment, _request, result
    del_left()


def failing() -> None:
    """The peers of sleeping enrollments answer nonsense, and one is interrupted."""
    for number, (enrollment, _request) in enumerate(started(8)):
        if number % 2:
            fails(BadMessage, lambda enrollment=enrollment: enrollment.switch(b"junk"))  # type: ignore[misc]
        else:
            fails(KeyboardInterrupt, lambda enrollment=enrollment: enrollment.throw(KeyboardInterrupt()))  # type: ignore[misc]
    del enrollment, _request
    del_left()


async def drive(enrollment: Enrollment, answered: Callable[[Enrollment, bytes], Coroutine[Any, Any, bytes]]) -> bytes:
    """Await at each switch, as AsyncSession does."""
    result = enrollment.switch()
    while isinstance(result, tuple):
        try:
            answer = await answered(*result)
        except BaseException as error:
            result = enrollment.throw(error)
        else:
            result = enrollment.switch(answer)
    assert isinstance(result, bytes)
    return result


def on_a_loop() -> None:
    """Tasks of asyncio, some of them cancelled."""

    async def answered(enrollment: Enrollment, request: bytes) -> bytes:
        await asyncio.sleep(0)
        return enrollment.server.process(request)

    async def main() -> None:
        tasks = [asyncio.create_task(drive(Enrollment(), answered)) for _ in range(8)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, bytes) for result in results] == [False, True] * 4

    asyncio.run(main())
    del_left()


def on_a_loop_that_closes() -> None:
    """The loop is closed while enrollments wait in it, and then everything is dropped."""

    async def never(_enrollment: Enrollment, _request: bytes) -> bytes:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def begin() -> None:
        tasks.extend(asyncio.create_task(drive(Enrollment(), never)) for _ in range(4))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[bytes]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    assert len(contexts_alive) == 4
    logging.getLogger("asyncio").disabled = True  # "Task was destroyed but it is pending!"
    try:
        tasks.clear()
        del loop
        del_left()
    finally:
        logging.getLogger("asyncio").disabled = False


def in_threads() -> None:
    """Each thread has greenlets of its own, finished or thrown before it ends."""
    done: list[int] = []

    def work() -> None:
        waiting = started(3)
        for enrollment, _request in waiting[1:]:
            fails(EOFError, lambda enrollment=enrollment: enrollment.throw(EOFError()))  # type: ignore[misc]
        enrollment, request = waiting[0]
        enrollment, request = enrollment.switch(enrollment.server.process(request))
        done.append(len(enrollment.switch(enrollment.server.process(request))))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    del thread, threads
    del_left()


def forgotten_by_another_thread() -> None:
    """Greenlets whose last reference goes in another thread are unwound when their own thread next runs greenlets."""
    waiting = started(3)
    thread = threading.Thread(target=waiting.clear)
    thread.start()
    thread.join()
    greenlet.getcurrent()
    greenlet.greenlet(lambda: None).switch()
    del_left()


PLAIN = [
    contexts,
    enroll_with_mac,
    enroll_with_signature,
    revoke_and_inform,
    callbacks_that_raise,
    nonsense,
    messages,
]
WITH_GREENLETS = [
    interleaved_few,
    cancelled,
    forgotten,
    forgotten_after_an_answer,
    killed,
    failing,
    on_a_loop,
    on_a_loop_that_closes,
    in_threads,
    forgotten_by_another_thread,
]


def everything() -> None:
    """All of them."""
    for scenario in [*PLAIN, *WITH_GREENLETS]:
        scenario()
