"""Run as a program, with settings NAME=VALUE: a server whose workers tell of themselves."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

from opensslcmp.server.app import App
from opensslcmp.server.peer import Peer
from opensslcmp.server.serve import serve
from opensslcmp.server.server_settings import ServerSettings

GIVEN = dict(each.split("=", 1) for each in sys.argv[1:])
LOAD, TOLD = GIVEN.pop("load", ""), GIVEN.pop("told", "")


class Teller:
    def __init__(self) -> None:
        self.told = b""
        if TOLD:
            self.reload()

    def reload(self) -> None:
        self.told = Path(TOLD).read_bytes()

    def handle(self, der: bytes, peer: Peer) -> bytes:
        raise NotImplementedError

    async def handle_async(self, der: bytes, peer: Peer) -> bytes:
        match der:
            case b"pid":
                return str(os.getpid()).encode()
            case b"told":
                return self.told
            case b"certificate":
                return peer.tls_certificate or b""
            case b"slow" | b"for ever":
                print(f"{der.decode()} begins", file=sys.stderr, flush=True)
                await asyncio.sleep(0.3 if der == b"slow" else 1000)
        return der


def load() -> App:
    if LOAD == "fail":
        raise ValueError("there is no CA")
    logging.basicConfig(format="%(levelname)s %(message)s")
    teller = Teller()
    return App(teller, threads=0, reload=teller.reload if TOLD else None)


def settings() -> ServerSettings:
    values: dict[str, Any] = {"port": 0}
    for name, value in GIVEN.items():
        if name.startswith("tls_") and name != "tls_client":
            values[name] = Path(value)
        elif name == "workers":
            values[name] = int(value)
        elif name.endswith("_seconds"):
            values[name] = float(value)
        else:
            values[name] = value
    return ServerSettings(**values)


if __name__ == "__main__":
    serve(load, settings(), ready=lambda url: print(url, flush=True))
