"""Exceptions on their road through C, and what happens outside of it."""

import gc
import signal
import sys
import weakref
from typing import Any

import pytest

from opensslcmp._native import ffi, lib
from opensslcmp._native.callbacks import Caller
from opensslcmp._native.memory import own
from opensslcmp.enums import BodyType
from opensslcmp.errors import OpenSSLError
from tests import native_peers as peers


def made() -> Caller:
    return Caller(own(lib.OSSL_CMP_CTX_new(ffi.NULL, ffi.NULL), lib.OSSL_CMP_CTX_free))


def test_the_first_exception_wins() -> None:
    caller = made()

    def work() -> int:
        caller.keep(KeyError("first"))
        caller.keep(KeyError("second"))
        return 0

    with pytest.raises(KeyError, match="first"):
        caller.call(work)
    assert caller.call(lambda: 7) == 7


def test_a_result_that_would_be_ours_is_freed_when_a_callback_raised() -> None:
    caller = made()
    freed: list[Any] = []

    def work() -> str:
        caller.keep(KeyError())
        return "result"

    with pytest.raises(KeyError):
        caller.call(work, free=freed.append)
    assert freed == ["result"]


def test_the_queue_is_empty_before_and_after_a_call_that_raises() -> None:
    caller = made()
    lib.OBJ_txt2obj(b"nonsense", 0)
    assert lib.ERR_peek_error() != 0

    def work() -> None:
        assert lib.ERR_peek_error() == 0
        lib.OBJ_txt2obj(b"nonsense", 0)
        caller.keep(KeyError())

    with pytest.raises(KeyError):
        caller.call(work)
    assert lib.ERR_peek_error() == 0


def test_an_exception_that_was_raised_keeps_nothing_alive() -> None:
    def transfer(_request: bytes) -> bytes:
        raise LookupError

    client = peers.make_client(transfer, peers.CA())
    alive = weakref.ref(client)
    gc.disable()
    try:
        with pytest.raises(LookupError) as caught:
            client.request_certificate(BodyType.IR)
        del caught, client
        assert alive() is None
    finally:
        gc.enable()


def test_a_signal_that_arrives_inside_c_comes_out_of_the_operation() -> None:
    def transfer(_request: bytes) -> bytes:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the signal handler raises first")

    client = peers.make_client(transfer, peers.CA())
    with pytest.raises(KeyboardInterrupt):
        client.request_certificate(BodyType.IR)


@pytest.mark.parametrize("depth", [3, 50])
def test_operations_nest(depth: int) -> None:
    def transfer(_request: bytes) -> bytes:
        if len(nested) < depth:
            nested.append(peers.make_client(transfer, peers.CA()))
            nested[-1].request_certificate(BodyType.IR)
        raise EOFError(len(nested))

    nested: list[Any] = []
    with pytest.raises(EOFError) as caught:
        peers.make_client(transfer, peers.CA()).request_certificate(BodyType.IR)
    assert caught.value.args == (depth,)


def test_a_callback_from_a_context_of_nobody_fails_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: seen.append(one.exc_type))
    context = ffi.gc(lib.OSSL_CMP_CTX_new(ffi.NULL, ffi.NULL), lib.OSSL_CMP_CTX_free)
    out = ffi.new("const unsigned char **")
    assert lib.opensslcmp_on_transfer(context, b"", 0, out) == -1
    assert KeyError in seen


def test_closing_frees_at_once_and_twice_does_nothing() -> None:
    caller = made()
    caller.close()
    caller.close()
    with pytest.raises(ValueError, match="this Caller is closed"):
        _ = caller._ptr


def test_an_error_without_words_still_is_one() -> None:
    with pytest.raises(OpenSSLError, match="without saying why"):
        own(ffi.NULL, lib.X509_free)
