"""``opensslcmp ra serve`` and ``ra secret``: a registration authority, by its file of settings."""

from __future__ import annotations

import importlib.util
import logging
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opensslcmp.cli.ca import AsJSON, ready
from opensslcmp.cli.exits import InputError, UsageError
from opensslcmp.cli.files import read_secret
from opensslcmp.cli.talk import give, give_json, say
from opensslcmp.errors import OpenSSLError

if TYPE_CHECKING:
    from opensslcmp.server.app import App
    from opensslcmp.server.ra_settings import OpenRA, RAConfiguration

__all__ = ["load_app", "secret", "serve"]

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="File of settings; docs/ra.md says what stands in it.")]


def serve(
    config: Config,
    *,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on; 127.0.0.1 when nothing says otherwise")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="0 picks a free one; 8080 by default", min=0, max=65535)
    ] = None,
    tcp: Annotated[
        int | None, typer.Option("--tcp", help="CMP over TCP on this port, too", metavar="PORT", min=0, max=65535)
    ] = None,
    coap: Annotated[
        int | None, typer.Option("--coap", help="CMP over CoAP on this UDP port, too", metavar="PORT", min=0, max=65535)
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes; 1 by default", min=1, max=256)] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the settings, and end")] = False,
) -> None:
    """Serve a registration authority over HTTP, and by other ways, before the CA that its settings name.

    Options win over the file. Prints "listening on URL" to stdout once connections are accepted. SIGINT and SIGTERM end it
    after the requests under way; what waits for the CA is taken up by the next start. The CA need not be there when it
    starts.
    """
    from opensslcmp.server.serve import serve as run_server

    configuration = _read(config)
    given: dict[str, Any] = {"host": host, "port": port, "workers": workers}
    try:
        server = replace(configuration.server, **{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
    ways: dict[str, Any] = {
        name: value for name, value in (("tcp_port", tcp), ("coap_port", coap)) if value is not None
    }
    transfers = replace(configuration.transfers, **ways)
    if transfers.coap_port is not None and importlib.util.find_spec("aiocoap") is None:
        raise UsageError("CoAP needs aiocoap: pip install 'opensslcmp[coap]'")
    try:
        server.tls()
    except ValueError as error:
        raise InputError(str(error)) from None
    if configuration.ra.mode == "batch" and configuration.store.url is not None:
        raise InputError(f"{config}: batches need the event loop, and [store] url takes threads")
    _open(configuration, config).close()  # here, where the words are better than from a worker process
    if check:
        say(f"{config}: no problem was found")
        say(f"mode: {configuration.ra.mode}; upstream: {', '.join(configuration.ra.upstream) or 'PKCS#10'}")
        return
    run_server(partial(load_app, config.absolute(), server.paths), server, transfers=transfers, ready=ready)


def _read(config: Path) -> RAConfiguration:
    from opensslcmp.server.ra_settings import RAConfiguration

    try:
        return RAConfiguration.load(config)
    except FileNotFoundError:
        raise InputError(f"{config} is not there") from None
    except ValueError as error:
        raise InputError(str(error)) from None


def _open(configuration: RAConfiguration, config: Path, **options: Any) -> OpenRA:
    from opensslcmp.server.ra_settings import open_ra

    try:
        return open_ra(configuration, config.absolute().parent, **options)
    except (ImportError, OSError, OpenSSLError, ValueError) as error:
        raise InputError(f"{config}: the registration authority does not open: {error}") from None


def load_app(config: Path, paths: tuple[str, ...]) -> App:
    """The application of a registration authority; each worker process makes its own."""
    from opensslcmp.server.app import App

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    configuration = _read(config)
    audit = configuration.audit.open(config.parent)
    opened = _open(configuration, config, observe=audit, is_open=None if audit is None else audit.is_open)

    def close() -> None:
        opened.close()
        if audit is not None:
            audit.close()

    return App(
        opened.handler,
        paths=paths,
        max_request_bytes=configuration.limits.gate.max_message_bytes,
        read_timeout_seconds=configuration.server.read_timeout_seconds,
        threads=configuration.store.pool_size if configuration.store.url is not None else 0,
        tick=opened.sweep,
        on_close=close,
        ready=None if opened.store is None else opened.store.revision,
    )


def secret(
    config: Config,
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="What the client sends as --ref.")],
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--secret", help="env:NAME, file:PATH, fd:NUMBER or stdin; else one is made and printed", metavar="SOURCE"
        ),
    ] = None,
    single_use: Annotated[bool, typer.Option("--single_use", help="Good for one certificate")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Forget the secret of this reference")] = False,
    as_json: AsJSON = False,
) -> None:
    """Give a client a secret for its first certificate through this registration authority.

    The database has it encrypted under vault.key, which is made beside the settings by the first secret. A server that runs
    before has to be started again then.
    """
    from opensslcmp.server.ra_settings import open_secrets

    given = None if source is None else read_secret(source, "--secret")
    if remove and (given is not None or single_use):
        raise UsageError("--remove goes alone")
    configuration = _read(config)
    directory = config.absolute().parent
    try:
        with closing(configuration.open_store(directory)) as store:
            book = open_secrets(store, directory, make=not remove)
            if remove:
                if book is None or not book.remove(reference):
                    raise InputError(f"there is no secret under {reference}")
                say(f"the secret of {reference} is forgotten")
                return
            assert book is not None
            made = book.add(reference, given, single_use=single_use)
    except (ConnectionError, OpenSSLError, ValueError) as error:
        raise InputError(f"{reference}: {error}") from None
    if as_json:
        give_json({"reference": reference} | ({"secret": made.decode()} if given is None else {}))
    elif given is None:
        give(made.decode() + "\n")
        say(f"the secret of {reference} stands above; it is not shown again")
    else:
        say(f"the secret of {reference} is kept")
