"""``opensslcmp ca init``, ``ca secret`` and ``serve``: a CA in a directory, and its server.

The server is imported when it is needed, so that the other commands start sooner.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from opensslcmp.cli.exits import InputError, UsageError
from opensslcmp.cli.files import read_secret
from opensslcmp.cli.talk import give, give_json, say
from opensslcmp.client.context import name_from
from opensslcmp.errors import OpenSSLError

if TYPE_CHECKING:
    from opensslcmp.server.app import App
    from opensslcmp.server.ca import CA
    from opensslcmp.server.http_service import Content
    from opensslcmp.server.settings import Settings

__all__ = ["AsJSON", "Directory", "init", "load_app", "open_ca", "open_settings", "ready", "secret", "serve"]

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the CA.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Write JSON for machines to stdout.")]


def init(
    directory: Directory,
    *,
    subject: Annotated[
        str, typer.Option("--subject", help="/O=Example/CN=CA or CN=CA,O=Example", metavar="NAME")
    ] = "CN=CMP CA",
    key: Annotated[str, typer.Option("--key", help="Kind of its key: ec:P-256, rsa:3072, ed25519...")] = "ec:P-256",
    days: Annotated[float, typer.Option("--days", help="Validity of its certificate", min=0)] = 3650,
    crl_url: Annotated[
        str | None,
        typer.Option(
            "--crl_url", help="Where clients will get the CRL; its certificates carry it", metavar="http://HOST/crl"
        ),
    ] = None,
    kga: Annotated[
        bool, typer.Option("--kga", help="Make keys for who asks for one (central key generation): kga.pem, kga.key")
    ] = False,
    escrow: Annotated[
        bool,
        typer.Option("--escrow", help="Archive keys, and give them back (key recovery): escrow.pem, escrow.key, kga.*"),
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Make a CA in a directory.

    The directory then holds ca.pem, its key ca.key and the key of the secrets vault.key (both mode 0600), the database
    ca.db and the CRL ca.crl. A CA that is there already is never overwritten.

    With --crl-url every certificate says where the CRL is (cRLDistributionPoints), and "serve" answers at the path of that
    URL too. It is kept in opensslcmp.toml, and cannot be told to certificates that are issued already.
    """
    from opensslcmp.server.ca import CA

    if key.startswith(("pkcs11:", "file:")):
        raise UsageError("--key is a kind of key to make, such as ec:P-256")
    try:
        ca = CA.create(directory, _name(subject), key, days, crl_url=crl_url, key_generation=kga, key_recovery=escrow)
    except FileExistsError as error:
        raise InputError(str(error)) from None
    ca.close()
    certificate = x509.load_der_x509_certificate(ca.certificate)
    fingerprint = certificate.fingerprint(SHA256()).hex()
    if as_json:
        told = {
            "directory": str(directory),
            "certificate": str(directory / "ca.pem"),
            "subject": certificate.subject.rfc4514_string(),
            "not_after": certificate.not_valid_after_utc.isoformat(),
            "sha256": fingerprint,
            "crl_url": crl_url,
        }
        give_json(told)
    else:
        say(f"CA {certificate.subject.rfc4514_string()} in {directory}; its certificate: {directory / 'ca.pem'}")
        say(f"SHA-256 of the certificate: {fingerprint}")


def _name(text: str) -> x509.Name:
    try:
        return x509.Name.from_bytes(name_from(text))
    except ValueError as error:
        raise UsageError(f"--subject: {error}") from None


def secret(
    directory: Directory,
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="What the client sends as --ref.")],
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--secret", help="env:NAME, file:PATH, fd:NUMBER or stdin; else one is made and printed", metavar="SOURCE"
        ),
    ] = None,
    single_use: Annotated[bool, typer.Option("--single_use", help="Good for one certificate")] = False,
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            help="Regular expression for the subject (CN=a,O=b) and each alternative name (DNS:a.example) asked for",
            metavar="PATTERN",
        ),
    ] = None,
    cert_profile: Annotated[
        list[str] | None,
        typer.Option("--cert_profile", help="Issuing profile that may be asked for; may be repeated", metavar="NAME"),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Forget the secret of this reference")] = False,
    as_json: AsJSON = False,
) -> None:
    """Give a client a secret for its first certificate.

    A secret that is made is printed to stdout, once: the database has it only encrypted. Without --subject the client may ask
    for any name.
    """
    from opensslcmp.cli.operator import record_act

    given = None if source is None else read_secret(source, "--secret")
    if remove and (given is not None or single_use or subject is not None or cert_profile):
        raise UsageError("--remove goes alone")
    ca = open_ca(directory)
    try:
        if remove:
            if not ca.remove_secret(reference):
                raise InputError(f"there is no secret under {reference}")
            record_act(directory, "secret remove", reference=reference)
            say(f"the secret of {reference} is forgotten")
            return
        try:
            made = ca.add_secret(reference, given, single_use=single_use, subject=subject, profiles=cert_profile or ())
        except ValueError as error:
            raise InputError(f"{reference}: {error}") from None
    finally:
        ca.close()
    record_act(directory, "secret add", reference=reference)
    if as_json:
        give_json({"reference": reference} | ({"secret": made.decode()} if given is None else {}))
    elif given is None:
        give(made.decode() + "\n")
        say(f"the secret of {reference} stands above; it is not shown again")
    else:
        say(f"the secret of {reference} is kept")


def serve(
    directory: Directory,
    *,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on; 127.0.0.1 when nothing says otherwise")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", "--http", help="0 picks a free one; 8080 by default", min=0, max=65535)
    ] = None,
    no_http: Annotated[bool, typer.Option("--no_http", help="Serve by other ways only")] = False,
    tcp: Annotated[
        int | None,
        typer.Option("--tcp", help="CMP over TCP on this port; 829 is the usual one", metavar="PORT", min=0, max=65535),
    ] = None,
    coap: Annotated[
        int | None,
        typer.Option(
            "--coap", help="CMP over CoAP on this UDP port; 5683 is the usual one", metavar="PORT", min=0, max=65535
        ),
    ] = None,
    mailbox: Annotated[
        Path | None, typer.Option("--mailbox", help="Answer the requests in this directory", metavar="DIRECTORY")
    ] = None,
    maildir: Annotated[
        Path | None,
        typer.Option("--maildir", help="Answer the mails in this Maildir, as \\[transfers] says", metavar="DIRECTORY"),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Which rules are checked", metavar="rfc9810|strict|lenient")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes; 1 by default", min=1, max=256)] = None,
    approval: Annotated[
        str | None,
        typer.Option(
            "--approval", help="Who decides about new certificates: nobody, or a person", metavar="none|manual"
        ),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path", help="Further path that means the same as /.well-known/cmp, such as / or /pkix/", metavar="PATH"
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls_cert", help="Speak HTTPS with this certificate and chain (PEM)")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls_key", help="Its private key (PEM)")] = None,
    tls_trusted: Annotated[
        Path | None,
        typer.Option("--tls_trusted", help="Only for clients with a TLS certificate under one of these (PEM)"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings; opensslcmp.toml in DIR by default", metavar="FILE")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check settings and CA, say what was found, and end")] = False,
) -> None:
    """Serve the CA of a directory over HTTP, and by other ways.

    What is to be configured stands in opensslcmp.toml; options here win over it.

    Prints "listening on URL" to stdout once connections are accepted. SIGINT and SIGTERM end it after the requests
    under way. The CRL is at /crl, and /healthz answers ok.

    With "--approval manual" requests for new certificates wait for "opensslcmp ca approve" or "ca reject", which may run while
    the server does; clients poll meanwhile.
    """
    from opensslcmp.server.rules import PROFILES
    from opensslcmp.server.serve import serve as run_server

    if profile is not None and profile not in PROFILES:
        raise UsageError(f"--profile is one of {', '.join(PROFILES)}")
    if approval not in {None, "none", "manual"}:
        raise UsageError("--approval is none or manual")
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls_cert and --tls_key are needed together")
    for each in path or ():
        if not each.startswith("/"):
            raise UsageError("--path begins with /")
    settings = open_settings(directory, config)
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "workers": workers,
        "paths": tuple(path) if path else None,
        "tls_certificate": tls_cert,
        "tls_key": tls_key,
        "tls_client_ca": tls_trusted,
    }
    try:
        server = replace(settings.server, **{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        server.tls()
    except ValueError as error:
        raise InputError(str(error)) from None
    ways: dict[str, Any] = {
        "http": False if no_http else None,
        "tcp_port": tcp,
        "coap_port": coap,
        "mailbox": mailbox and mailbox.absolute(),
        "maildir": maildir and maildir.absolute(),
    }
    try:
        transfers = replace(settings.transfers, **{name: value for name, value in ways.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
    if transfers.coap_port is not None and importlib.util.find_spec("aiocoap") is None:
        raise UsageError("CoAP needs aiocoap: pip install 'opensslcmp[coap]'")
    options = {"profile": profile, "approval": None if approval is None else approval == "manual"}
    # Here, where the words are better than from a worker process.
    _check_authority(directory, settings, options)
    if check:
        found = config or directory / "opensslcmp.toml"
        say(f"{found}: no problem was found" if found.exists() else f"{found} is not there; defaults are used")
        for line in _found_in(settings):
            say(line)
        return
    load = partial(load_app, directory.absolute(), config and config.absolute(), server.paths, options)
    if not settings.metrics.enabled or server.workers == 1:
        run_server(load, server, transfers=transfers, ready=ready)
        return
    with tempfile.TemporaryDirectory(prefix="opensslcmp-", dir=os.environ.get("RUNTIME_DIRECTORY")) as numbers:
        run_server(partial(load, metrics_directory=Path(numbers)), server, transfers=transfers, ready=ready)


def open_settings(directory: Path, config: Path | None = None) -> Settings:
    """The settings of a CA, from its directory or from ``config``.

    Raises:
        InputError: ``config`` is not there, or either cannot be used; one line for each problem.
    """
    from opensslcmp.server.settings import Settings

    if config is not None and not config.is_file():
        raise InputError(f"{config} is not there")
    try:
        return Settings.load(config or directory / "opensslcmp.toml")
    except ValueError as error:
        raise InputError(str(error)) from None


def ready(url: str) -> None:
    """Say that a server listens."""
    give(f"listening on {url}\n")


def _check_authority(directory: Path, settings: Settings, options: dict[str, Any]) -> None:
    from opensslcmp.server.ca import open_responder

    try:
        open_responder(directory, settings=settings, **options).close()
    except FileNotFoundError as error:
        raise InputError(f"there is no CA in {directory}: {error.filename or error} is missing") from None
    except (OSError, OpenSSLError, ValueError) as error:
        raise InputError(f"the CA in {directory} does not open: {error}") from None


def _found_in(settings: Settings) -> Iterator[str]:
    """What settings come to, in words."""
    rules = settings.rules
    switched = [f"+{each}" for each in rules.on] + [f"-{each}" for each in rules.off]
    yield f"rules: {' '.join([rules.profile, *switched])}"
    first, *others = [each.name for each in settings.issuing]
    yield f"issuing profiles: {', '.join([f'{first} (the default)', *others])}"
    for name, label in settings.labels.items():
        own = f", rules {label.rules.profile}" if label.rules else ""
        yield f"label {name}: profiles {', '.join(label.profiles) or 'all'}{own}, {_openness(label.is_open)}"
    who = settings.authorisation
    yield f"who may ask: {_openness(who.is_open)}; {len(who.registration_authorities)} registration authorities listed"


def _openness(is_open: bool) -> str:
    return "everybody whose credential is known" if is_open else "restricted"


def load_app(
    directory: Path,
    config: Path | None,
    paths: tuple[str, ...],
    options: dict[str, Any],
    metrics_directory: Path | None = None,
) -> App:
    """The application of a CA's directory; each worker process makes its own."""
    from opensslcmp.server.announcer import Announcer
    from opensslcmp.server.app import App, Document
    from opensslcmp.server.generations import url_of
    from opensslcmp.server.http_service import OLD_TYPES
    from opensslcmp.server.live import LiveResponder
    from opensslcmp.server.watching import Watch

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    watch = Watch(open_settings(directory, config), directory, metrics_directory)
    live = LiveResponder(directory, config=config, observe=watch, is_open=watch.is_open, **options)
    watch.begin(live.ca)
    announcer = Announcer(
        directory / "announcements", live.settings.announce, lambda: live.ca, lambda: live.responder.protector
    )

    def crl(path: str) -> Document | None:
        generation = live.ca.crl_paths().get(path)
        if generation is None:
            return None
        current = live.ca.current_crl(generation)
        return Document(
            content=current.content,
            content_type=b"application/pkix-crl",
            made_at=current.made_at,
            good_until=current.good_until,
        )

    def tick() -> None:
        live.sweep()
        live.publish()
        watch.tick()
        announcer.start()

    def close() -> None:
        announcer.close()
        live.close()
        watch.close()

    def reload() -> bool:
        taken_over = live.reload()
        app.responder = live.responder
        return taken_over

    # Of keys that are yet to come too, since SIGHUP brings them; there is nothing at their paths before.
    to_come = range(live.ca.generation + 1, live.ca.generation + 4)
    crl_paths = {
        *live.ca.crl_paths(),
        *(url_of(path, each) for path in ("/crl", live.settings.crl_path or "/crl") for each in to_come),
    }
    documents: dict[str, Callable[[], Content]] = {path: partial(crl, path) for path in crl_paths}
    # A local disk is waited for on the loop's thread, where messages share commits (``hub``); a database in threads.
    over_network = live.settings.store.url is not None
    app = App(
        live.responder,
        documents={**documents, **watch.documents()},
        paths=paths,
        max_request_bytes=live.settings.limits.gate.max_message_bytes,
        content_types=OLD_TYPES if live.responder.profile.name == "lenient" else (),
        read_timeout_seconds=live.settings.server.read_timeout_seconds,
        threads=live.settings.store.pool_size if over_network else 0,
        tick=tick,
        on_close=close,
        ready=live.responder.store.revision,
        reload=reload,
    )
    return app


def open_ca(directory: Path) -> CA:
    """The CA in a directory.

    Raises:
        InputError: there is none, or it does not open.
    """
    from opensslcmp.server.ca import CA

    try:
        return CA.open(directory)
    except FileNotFoundError as error:
        raise InputError(f"there is no CA in {directory}: {error.filename or error} is missing") from None
    except (ConnectionError, OpenSSLError, ValueError) as error:
        raise InputError(f"the CA in {directory} does not open: {error}") from None
