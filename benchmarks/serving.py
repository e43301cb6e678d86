"""``python -m benchmarks.serving DIRECTORY REFERENCE``: the CA of a directory as ``opensslcmp serve`` serves it, store in memory.

The secret comes by the environment.
"""

import os
import sys
from functools import partial
from pathlib import Path

from opensslcmp.server.app import App
from opensslcmp.server.ca import CA, open_responder
from opensslcmp.server.memory import MemoryStore
from opensslcmp.server.serve import serve
from opensslcmp.server.server_settings import ServerSettings

__all__ = ["load"]


def load(directory: Path, reference: str) -> App:
    """The application, in a worker."""
    responder = open_responder(directory, store=MemoryStore())
    assert isinstance(responder.authority, CA)
    responder.authority.add_secret(reference, os.environ["BENCHMARK_SECRET"])
    return App(responder, threads=0)


if __name__ == "__main__":
    place, name = sys.argv[1:]
    serve(
        partial(load, Path(place), name),
        ServerSettings(port=0),
        ready=lambda url: print(f"listening on {url}", flush=True),
    )
