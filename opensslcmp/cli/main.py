"""The ``opensslcmp`` command: its tree of commands, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from opensslcmp._version import __version__
from opensslcmp.cli import announce, authority, bench, ca, client, demo, enroll_many, inspecting, operator, ra, renew
from opensslcmp.cli.cmp import program
from opensslcmp.cli.command import EXAMPLES, add_command, make_app
from opensslcmp.cli.exits import Exit
from opensslcmp.cli.talk import say

__all__ = ["EXAMPLES", "app", "ca_app", "run"]


def _cmp(
    arguments: Annotated[list[str] | None, typer.Argument(help="As openssl cmp takes them; -help shows them.")] = None,
) -> None:
    """Do as the client of openssl cmp does, option for option.

    For scripts that call openssl cmp today. Options have one dash; opensslcmp cmp -help shows them.
    """
    raise typer.Exit(program.main(arguments or []))


app = make_app("Certificates by the Certificate Management Protocol (CMP, RFC 9810): client, server and CA.")

_FIRST = "To begin with"
_CLIENT = "With any CMP server"
_SERVER = "A CA and its server"
_TOOLS = "Tools"


def _version(asked: bool) -> None:
    if asked:
        print(f"opensslcmp {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 done, 1 internal error, 2 usage, 3 rejected, 4 no answer, 5 not trusted, 6 bad message, 7 bad input, "
    "8 not in this OpenSSL or not installed, 9 some of several failed."
)
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


add_command(app, "demo", demo.demo, panel=_FIRST, example="opensslcmp demo")
add_command(
    app,
    "enroll",
    client.enroll,
    panel=_CLIENT,
    example="""
opensslcmp enroll --server http://127.0.0.1:8080 --ref device-1 --secret env:SECRET \\
    --subject /CN=device-1 --newkey ec:P-256 --newkeyout device.key --certout device.pem \\
    --cacertsout ca.pem
""",
)
add_command(
    app,
    "update",
    client.update,
    panel=_CLIENT,
    example="""
opensslcmp update --server http://127.0.0.1:8080 --cert device.pem --key device.key \\
    --trusted ca.pem --newkey ec:P-256 --newkeyout device.key --certout device.pem
""",
)
add_command(
    app,
    "revoke",
    client.revoke,
    panel=_CLIENT,
    example="""
opensslcmp revoke --server http://127.0.0.1:8080 --cert device.pem --key device.key \\
    --trusted ca.pem --revreason keyCompromise
""",
)
add_command(
    app,
    "recover",
    client.recover,
    panel=_CLIENT,
    example="""
opensslcmp recover --server http://127.0.0.1:8080 --ref device-1 --secret env:SECRET --out recovered
""",
)
add_command(
    app,
    "info",
    client.info,
    panel=_CLIENT,
    example="""
opensslcmp info --server http://127.0.0.1:8080 --ref device-1 --secret env:SECRET \\
    --infotype caCerts --cacertsout ca.pem
""",
)
add_command(
    app,
    "cmp",
    _cmp,
    panel=_CLIENT,
    example="""
opensslcmp cmp -cmd ir -server http://127.0.0.1:8080/.well-known/cmp -ref device-1 -secret env:SECRET \\
    -subject /CN=device-1 -newkey device.key -certout device.pem
""",
)
add_command(
    app,
    "enroll-many",
    enroll_many.enroll_many,
    panel=_CLIENT,
    example="""
opensslcmp enroll-many inventory.csv --out fleet --server http://127.0.0.1:8080 \\
    --ref device-1 --secret env:SECRET --concurrency 16 --report fleet.json
""",
)
add_command(
    app,
    "renew",
    renew.renew,
    panel=_CLIENT,
    example="""
opensslcmp renew fleet --days 30 --server http://127.0.0.1:8080 \\
    --trusted ca.pem --hook "systemctl reload device"
""",
)
ca_app = make_app("Make a CA in a directory, and look after it.")
app.add_typer(ca_app, name="ca", rich_help_panel=_SERVER)
add_command(ca_app, "init", ca.init, group="ca", example="opensslcmp ca init my-ca --subject /O=Example/CN=Device-CA")
secret_app = make_app(
    "Secrets that clients get their first certificates with; add is meant where no other word is said.", "add"
)
ca_app.add_typer(secret_app, name="secret")
_secret_commands: tuple[tuple[str, Callable[..., None], str], ...] = (
    ("add", ca.secret, "opensslcmp ca secret add my-ca device-1"),
    ("list", operator.secret_list, "opensslcmp ca secret list my-ca"),
    ("rotate", operator.secret_rotate, "opensslcmp ca secret rotate my-ca device-1 --overlap 7d"),
    ("remove", operator.secret_remove, "opensslcmp ca secret remove my-ca device-1"),
)
for _command, _function, _example in _secret_commands:
    add_command(secret_app, _command, _function, group="ca secret", example=_example)
_ca_commands: tuple[tuple[str, Callable[..., None], str], ...] = (
    ("list", authority.list_certificates, "opensslcmp ca list my-ca"),
    ("search", operator.search, "opensslcmp ca search my-ca --subject device --expires-before 30"),
    ("show", authority.show, "opensslcmp ca show my-ca 5A:3F:09"),
    ("revoke", authority.revoke, "opensslcmp ca revoke my-ca 5A:3F:09 --reason keyCompromise"),
    ("crl", authority.crl, "opensslcmp ca crl my-ca --out ca.crl"),
    ("pending", authority.pending, "opensslcmp ca pending my-ca"),
    ("approve", authority.approve, "opensslcmp ca approve my-ca 4f0c1d2e3a5b"),
    ("reject", authority.reject, 'opensslcmp ca reject my-ca 4f0c1d2e3a5b --reason "no such device"'),
    ("answer", authority.answer, "opensslcmp ca answer my-ca request.der --out answer.der"),
    ("rollover", operator.rollover, "opensslcmp ca rollover my-ca --key ec:P-384"),
    ("backup", operator.backup, "opensslcmp ca backup my-ca my-ca.backup --passphrase env:PASSPHRASE"),
    ("restore", operator.restore, "opensslcmp ca restore my-ca.backup my-ca-again --passphrase env:PASSPHRASE"),
)
for _command, _function, _example in _ca_commands:
    add_command(ca_app, _command, _function, group="ca", example=_example)
add_command(app, "serve", ca.serve, panel=_SERVER, example="opensslcmp serve my-ca --port 8080")
add_command(
    app,
    "announce",
    announce.announce,
    panel=_SERVER,
    example="opensslcmp announce my-ca crlann --to http://127.0.0.1:8090/.well-known/cmp",
)
add_command(
    app,
    "listen",
    announce.listen,
    panel=_SERVER,
    example="opensslcmp listen --trusted ca.pem --out announced --port 8090",
)
ra_app = make_app("A registration authority: between end entities and a CA of any kind.")
app.add_typer(ra_app, name="ra", rich_help_panel=_SERVER)
add_command(ra_app, "serve", ra.serve, group="ra", example="opensslcmp ra serve my-ra/ra.toml --port 8081")
add_command(ra_app, "secret", ra.secret, group="ra", example="opensslcmp ra secret my-ra/ra.toml device-1")
add_command(app, "inspect", inspecting.inspect, panel=_TOOLS, example="opensslcmp inspect request.der")
add_command(
    app,
    "bench",
    bench.bench,
    panel=_TOOLS,
    example="""
opensslcmp bench http://127.0.0.1:8080 --ref device-1 --secret env:SECRET \\
    --rate 20 --duration 5 --concurrency 16 --svg bench.svg
""",
)
add_command(app, "doctor", inspecting.doctor, panel=_TOOLS, example="opensslcmp doctor")


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        its exit code.
    """
    try:
        app(list(arguments), prog_name="opensslcmp", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        say("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be said there (https://docs.python.org/3/library/signal.html).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.INTERNAL
    except OSError as error:
        # Help that cannot be written: a command's own errors are told before they come here.
        say(f"error: {error}")
        return Exit.INPUT
    return Exit.OK
