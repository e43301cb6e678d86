"""``ffi``, ``lib`` and the helpers that everything native goes through: loading, memory, queue, callbacks, levels.

Importing it fails with an ``ImportError`` that says why where the package cannot work: in a subinterpreter, and in a
process that has loaded another libcrypto than the one compiled against. Only one ``libcrypto.so.3`` can live in a
process, and the standard library's ``ssl`` may have chosen it before us.
"""

from opensslcmp._native.loading import load, refuse_subinterpreters

refuse_subinterpreters()
ffi, lib, IMPLEMENTATION = load()

__all__ = ["IMPLEMENTATION", "ffi", "lib"]
