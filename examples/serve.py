"""A server of your own making: the application, served by two processes.

Run it:  python examples/serve.py DIRECTORY     (made by: opensslcmp ca init DIRECTORY)
"""

import sys
from functools import partial

from opensslcmp.server import CA, open_responder
from opensslcmp.server.app import App
from opensslcmp.server.serve import serve
from opensslcmp.server.server_settings import ServerSettings


def load(directory: str) -> App:
    """Called in each process."""
    responder = open_responder(directory, profile="strict")
    assert isinstance(responder.authority, CA)
    return App(responder, crl=responder.authority.crl, max_request_bytes=64 * 1024, on_close=responder.close)


def main() -> None:
    serve(
        partial(load, sys.argv[1]),
        ServerSettings(port=0, workers=2),
        ready=lambda url: print(f"listening on {url}", flush=True),
    )


if __name__ == "__main__":
    main()
