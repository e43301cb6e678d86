"""``ffi``, ``lib`` and the four helpers that everything native goes through: memory, queue, callbacks, text."""

from opensslcmp._native._openssl import ffi, lib

__all__ = ["ffi", "lib"]
