"""A server in a process of its own: ``python -m tests.interop.serving CA_DIRECTORY`` prints its URL when it listens."""

import sys
from functools import partial

from opensslcmp.server.app import App
from opensslcmp.server.ca import open_responder
from opensslcmp.server.serve import serve
from opensslcmp.server.server_settings import ServerSettings


def load(directory: str) -> App:
    return App(open_responder(directory))


if __name__ == "__main__":
    serve(partial(load, sys.argv[1]), ServerSettings(port=0), ready=partial(print, flush=True))
