"""The road of an exception through C.

1. Python calls C through :meth:`Caller.call`, which empties the error queue and marks the object as busy.
2. C calls back. cffi takes the GIL and enters the function that :func:`callback` made, which finds the Python object by
   the address of the C context (none of OpenSSL's ``*_cb_arg`` slots is free for a handle of ours: one is read as
   ``BIO *[2]``, one as "use TLS", one as ``X509_STORE *``).
3. The body raises: ``KeyboardInterrupt``, ``GreenletExit`` and ``CancelledError`` too. The exception is kept on the
   object, the first one wins, and C gets the value that means failure. Nothing ever raises into C.
4. C unwinds, freeing what is its own, and returns to :meth:`Caller.call`, which empties the queue and raises the kept
   exception with its whole traceback.

A body may switch greenlets: the C frames below it sleep on the greenlet's own stack, and whoever runs meanwhile may
make calls of its own on *other* contexts. What makes that safe, each rule with its test in
``tests/native/test_greenlets.py``:

- The error queue belongs to the thread, so it must be empty whenever a body switches away; each call empties it first.
- Every way out of a sleeping greenlet ends in step 4. ``throw`` raises inside the body. When the last reference goes,
  greenlet throws ``GreenletExit`` for us, and C unwinds as for any other exception: nothing leaks.
- No frame that sleeps in a greenlet may refer to that greenlet, not even by an argument of ``switch``. Python's
  collector cannot see the frames of a sleeping greenlet, so such a circle, and C's memory with it, would live for ever.
  The hub keeps the greenlet; the greenlet knows the hub and what it needs for its work.
- Only the thread that started a greenlet can resume or unwind it. One that is dropped by another thread waits until its
  own thread runs greenlets again. So finish or throw before the thread ends.
- A body must not answer ``GreenletExit`` by switching away again: greenlet would have to keep the stack for ever.
- A context that is inside C is busy: a second call on it, or ``close``, is refused with ``RuntimeError``, since OpenSSL
  has no locks here.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from opensslcmp._native import ffi, lib

__all__ = ["Caller", "callback"]

Body = TypeVar("Body", bound=Callable[..., Any])

_callers: "WeakValueDictionary[int, Caller]" = WeakValueDictionary()


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


class Caller:
    """Base of what owns a C context that calls back."""

    def __init__(self, pointer: Any) -> None:
        self._owned: Any = pointer
        self._raised: BaseException | None = None
        self._busy = False
        _callers[_address(pointer)] = self

    @property
    def _ptr(self) -> Any:
        if self._owned is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self._owned

    def call(self, function: Callable[..., Any], *args: Any, free: Any = None) -> Any:
        """Call C and raise what a callback raised meanwhile; ``free`` is for a result that would be ours.

        Raises:
            RuntimeError: C is already at work on this context.
        """
        if self._busy:
            raise RuntimeError(f"this {type(self).__name__} is inside another call")
        self._busy = True
        try:
            lib.ERR_clear_error()
            result = function(*args)
        finally:
            self._busy = False
        if self._raised is not None:
            if free is not None and result:
                free(result)
            lib.ERR_clear_error()
            raised, self._raised = self._raised, None
            try:
                raise raised
            finally:
                del raised  # else the traceback's frames and the exception keep each other
        return result

    def keep(self, error: BaseException) -> None:
        """Remember what a callback raised; the first one wins."""
        if self._raised is None:
            self._raised = error

    def close(self) -> None:
        """Free the C context now. Closing twice is fine, any other use afterwards is ``ValueError``.

        Raises:
            RuntimeError: C is at work on it.
        """
        if self._busy:
            raise RuntimeError(f"this {type(self).__name__} is inside another call")
        owned, self._owned = self._owned, None
        if owned is not None:
            _callers.pop(_address(owned), None)
            ffi.release(owned)


def callback(*, on_failure: Any = None, caller_of: Callable[..., Caller] | None = None) -> Callable[[Body], Body]:
    """Make ``_on_event(caller, *arguments)`` the body of the ``extern "Python"`` function ``opensslcmp_on_event``.

    Args:
        on_failure: what C gets when the body raises.
        caller_of: finds the object that made the call from C's arguments; otherwise it is found by the first one, which
            the body then does not get.
    """

    def decorate(function: Body) -> Body:
        def enter(*arguments: Any) -> Any:
            caller = None
            try:
                if caller_of is not None:
                    caller = caller_of(*arguments)
                    return function(caller, *arguments)
                caller = _callers[_address(arguments[0])]
                return function(caller, *arguments[1:])
            except BaseException as error:
                if caller is None:
                    raise
                caller.keep(error)
                return on_failure

        def stray(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
            # A signal came in the few instructions outside the try.
            caller = traceback.tb_frame.f_locals.get("caller") if traceback is not None else None
            if caller is None:
                raise error  # cffi reports it on stderr: no call of ours is there to raise it
            caller.keep(error)

        failure = {} if on_failure is None else {"error": on_failure}
        ffi.def_extern(name=f"opensslcmp{function.__name__}", onerror=stray, **failure)(enter)
        return function

    return decorate
