"""Run as a program: an App whose responder tells what it was given."""

import sys
from pathlib import Path

from opensslcmp.server.app import App
from opensslcmp.server.peer import Peer
from opensslcmp.server.serve import serve
from opensslcmp.server.server_settings import ServerSettings


class Echo:
    def handle(self, der: bytes, peer: Peer) -> bytes:
        return f"{peer.label} {peer.operation} ".encode() + der


def load() -> App:
    return App(Echo(), crl=lambda: b"crl", max_request_bytes=200_000, read_timeout_seconds=0.5, paths=("/",))


def ready(url: str) -> None:
    print(f"listening on {url}", flush=True)


if __name__ == "__main__":
    workers, *files = sys.argv[1:]
    certificate, key = map(Path, files) if files else (None, None)
    settings = ServerSettings(port=0, workers=int(workers), tls_certificate=certificate, tls_key=key)
    serve(load, settings, ready=ready)
