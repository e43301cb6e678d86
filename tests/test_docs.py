"""What the pages of docs show works: code is run, commands are run or exist with these options, settings load.

Names and places of the pages (``ca.example``, ports, ``/var/...``) are those of a CA in this process, of free ports and of an
empty directory. A block that is not run stands in ``ELSEWHERE`` with the test that does what it shows, or why nothing does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typer.main import get_command

from opensslcmp import (
    Context,
    Journal,
    Order,
    Pending,
    PrivateKey,
    Retry,
    Session,
    Trust,
    server,
)
from opensslcmp.cli.main import app
from opensslcmp.server.ra_settings import RAConfiguration
from opensslcmp.server.settings import Settings
from opensslcmp.testing import CA, Server, Wait
from tests.server.web_client import environment

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SECRET = "the secret"


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    page: str
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}-{self.language}"


def blocks_of(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    name = path.relative_to(DOCS).as_posix() if path.is_relative_to(DOCS) else path.name
    return [Block(name, number, language, code) for number, (language, code) in enumerate(found)]


BLOCKS = [block for path in sorted(DOCS.rglob("*.md")) if "_generated" not in path.parts for block in blocks_of(path)]
PYTHON = {
    block.page: [each for each in BLOCKS if each.page == block.page and each.language == "python"] for block in BLOCKS
}

# page -> what the test is called that runs its code, or its commands.
RUN_PYTHON = {"tutorial.md", "client.md", "fleet.md", "transfers.md", "ra.md", "server.md", "bench.md"}
RUN_SHELL = {"tutorial.md", "keys.md", "transfers.md", "ra.md", "fleet.md", "server.md"}
ELSEWHERE = {
    "testing-your-service.md": "tests/testing/test_plugin.py",
    "operations.md": "tests/interop/test_operations.py",
    "how-cmp-works.md": "tests/cli/test_inspecting.py",
    "cli.md": "tests/cli/test_manual.py",
    "contributing.md": "they are the tests",
    "releasing.md": "tests/test_release.py",
    "install.md": "tests/test_packaging.py",
    "testing.md": "they are the tests",
    "performance.md": "they are measurements",
    "security.md": "tests/server/test_secret_book.py; a measurement",
    "configuration.md": "tests/server/test_configuration.py",
    "storage.md": "tests/server/test_stores.py and others with PostgreSQL",
}


# -- settings and commands, wherever they stand --------------------------------------------------------------------


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "toml"], ids=str)
def test_settings_load(block: Block, tmp_path: Path) -> None:
    with CA() as ca:
        for name in re.findall(r'"([\w-]+\.pem)"', block.text):
            (tmp_path / name).write_bytes(ca.pem)
        signer = ca.issue()
        (tmp_path / "ra.pem").write_bytes(signer.certificate.public_bytes(Encoding.PEM))
        (tmp_path / "ra.key").write_bytes(signer.key.to_pem())
    text = block.text
    if block.page == "ra.md" and "[ra]" not in text:
        text = MINIMAL_RA + text
    path = tmp_path / "settings.toml"
    path.write_text(text)
    (RAConfiguration if block.page == "ra.md" else Settings).load(path)


MINIMAL_RA = """
[ra]
upstream = ["http://ca.example/"]
certificate = "ra.pem"
key = "ra.key"
trusted = ["ra.pem"]
"""


def commands() -> Iterator[tuple[Block, list[str]]]:
    """Every ``opensslcmp ...`` that a page or the README shows, as words."""
    for block in [*BLOCKS, *blocks_of(ROOT / "README.md")]:
        if block.language != "sh":
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            found = re.search(r"(?:^|\$\(|-- )opensslcmp (\w.*?)(?:\s[|&>].*|\))?$", line)
            if found:
                yield block, shlex.split(found[1], comments=True)


@pytest.mark.parametrize(("block", "words"), list(commands()), ids=lambda each: str(each)[:60])
def test_every_command_and_option_of_the_pages_exists(block: Block, words: list[str]) -> None:
    command: Any = get_command(app)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        if words[0] not in command.commands:  # `ca secret DIRECTORY` is `ca secret add`
            command = command.commands["add"]
            break
        command = command.commands[words.pop(0)]
    if command.name == "cmp":
        return  # options of openssl cmp: tests/interop/test_openssl_cmp.py
    known = {name.replace("_", "-") for each in command.params for name in (*each.opts, *each.secondary_opts)}
    given = {word.partition("=")[0].replace("_", "-") for word in words if re.match(r"--\w", word)}
    assert given - known - {"--help"} == set()


def test_each_block_is_run_or_it_is_said_where_or_why() -> None:
    shown = {block.page for block in BLOCKS if block.language in {"python", "sh"}}
    assert shown <= {*RUN_PYTHON, *RUN_SHELL, *ELSEWHERE}


# -- code ----------------------------------------------------------------------------------------------------------


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the code of a page in one namespace, in an empty directory; what it has named is given back."""
    monkeypatch.chdir(tmp_path)

    def execute(
        page: str, numbers: list[int] | None = None, replace: dict[str, str] | None = None, **names: Any
    ) -> Any:
        chosen = [each for each in PYTHON[page] if numbers is None or each.number in numbers]
        assert chosen
        for block in chosen:
            code = block.text
            for old, new in (replace or {}).items():
                code = code.replace(old, new)
            exec(compile(code, str(block), "exec"), names)
        return names

    return execute


@pytest.fixture
def served(cmp_ca: CA, cmp_server: Server, tmp_path: Path) -> Server:
    """A server, with the secrets and files that the pages speak of."""
    for reference in ("device-1", "fleet-1"):
        cmp_ca.secret(reference, secret=SECRET)
    (tmp_path / "device.key").write_bytes(PrivateKey.generate("ec:P-256").to_pem())
    (tmp_path / "ca.pem").write_bytes(cmp_ca.pem)
    return cmp_server


@pytest.fixture
def places(served: Server) -> dict[str, str]:
    """What stands on the pages, and what is there instead."""
    return {
        '"http://ca.example/.well-known/cmp"': repr(served.url),
        "http://127.0.0.1:8080/.well-known/cmp": served.url,
        "range(1000)": "range(20)",
    }


def test_client(run: Run, places: dict[str, str], cmp_ca: CA) -> None:
    first, _kem, _token, library, waiting, several, many = [each.number for each in PYTHON["client.md"]]
    assert "KemCredential" in PYTHON["client.md"][1].text  # tests of KEM-based MACs, where OpenSSL has ML-KEM
    assert "pkcs11" in PYTHON["client.md"][2].text  # tests/context/test_pkcs11.py, where there is a token
    made = run("client.md", [first, library], places)
    assert made["issued"].certificate.subject.rfc4514_string() == "CN=device-1,O=Example"
    with cmp_ca.misbehave(Wait(polls=1)):
        names = {"Pending": Pending, "Path": Path, "session": made["session"]}
        assert run("client.md", [waiting], places, **names)["issued"].certificate
    cmp_ca.secret("gateway", secret="secret")
    made = run("client.md", [several], places)
    assert [each.subject for each in made["orders"]] == ["CN=left", "CN=right"]
    made = run("client.md", [many], places)
    assert len(asyncio.run(made["main"]())) == 20


def test_fleet(run: Run, places: dict[str, str], served: Server, cmp_ca: CA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_PASSWORD", "of the journal")
    stored: dict[str, Any] = {}
    names = {
        "Context": Context,
        "Session": Session,
        "Journal": Journal,
        "Retry": Retry,
        "Order": Order,
        "os": os,
        "credential": cmp_ca.secret("device-1"),
        "url": served.url,
        "names": ["a", "b", "c"],
        "store": lambda label, certificate, key: stored.update({label: (certificate, key)}),
        "log": lambda label, error: stored.update({label: error}),
    }
    made = run("fleet.md", None, {**places, "/var/lib/device/": ""}, **names)
    assert made["issued"].certificate.subject.rfc4514_string() == "CN=device-1"
    assert {label: each[0].subject.rfc4514_string() for label, each in stored.items()} == {
        name: f"CN={name}" for name in "abc"
    }
    made["journal"].close()


def test_transfers(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = run("transfers.md", None, {"message_timeout_seconds=1": "message_timeout_seconds=0.05"})
    assert "carry exchange/requests away" in capsys.readouterr().out
    made["session"].journal.close()
    with CA() as ca:
        ca.secret("device-1", secret="secret")
        (request,) = (tmp_path / "exchange" / "requests").glob("*.pki")
        (tmp_path / "exchange" / "answers" / request.name).write_bytes(ca.answer(request.read_bytes()).body)
        made = run("transfers.md", None, {"message_timeout_seconds=1": "message_timeout_seconds=0.05"})
        made["session"].journal.close()
    assert [each.asked.text for each in ca.exchanges if each.asked is not None] == ["ir"]
    assert len(list((tmp_path / "exchange" / "requests").glob("*.pki"))) == 1  # the certConf


def test_ra(run: Run, served: Server, cmp_ca: CA) -> None:
    signer = cmp_ca.issue("CN=RA")
    names = {"signer": signer, "trust": Trust([cmp_ca.certificate])}
    made = run("ra.md", None, {"http://ca.example/.well-known/cmp": served.url}, **names)
    with CA() as other:
        session = Session(other.context(other.issue(), trusted=cmp_ca.certificate), made["responder"].handle)
        with pytest.raises(Exception, match="signer is not trusted"):
            session.ca_certificates()
    made["store"].close()


def test_server(run: Run, tmp_path: Path) -> None:
    server.CA.create(tmp_path / "my-ca", "CN=CA").close()
    (tmp_path / "root.pem").write_bytes((tmp_path / "my-ca" / "ca.pem").read_bytes())
    made = run("server.md")
    made["app"].close()
    assert made["responder"].handle(b"nonsense")
    made["responder"].store.close()


def test_bench(run: Run, places: dict[str, str], cmp_ca: CA, capsys: pytest.CaptureFixture[str]) -> None:
    cmp_ca.secret("device-1")
    shorter = {
        '"secret"': repr(SECRET),
        "duration_seconds=30": "duration_seconds=0.2",
        "warm_up_seconds=2": "warm_up_seconds=0",
    }
    made = run("bench.md", None, {**places, **shorter, "rate=100": "rate=20", "range(16)": "range(2)"})
    assert made["tally"].latency.count > 0
    assert set(made["tally"].failures) <= {"not begun in time"}  # on a slow machine
    made["context"].close()


# -- commands ------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Shell:
    """Runs what a page has for the shell, where ``opensslcmp`` is this very package."""

    directory: Path
    replace: dict[str, str]

    def script(self, text: str) -> list[str]:
        for old, new in self.replace.items():
            text = text.replace(old, new)
        return ["bash", "-ec", text]

    def environment(self, **variables: str) -> dict[str, str]:
        # A program and not a function of the shell: `$!` is the server then, and not a shell around it.
        program = self.directory / "bin" / "opensslcmp"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m opensslcmp "$@"\n')
        program.chmod(0o755)
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        return environment() | {"OPENSSL_CONF": "/dev/null", "SECRET": SECRET, "PATH": path} | variables

    def run(self, text: str, code: int = 0, **variables: str) -> str:
        done = subprocess.run(
            self.script(text),
            cwd=self.directory,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=290,
            check=False,
        )
        assert done.returncode == code, (text, done.stdout, done.stderr)
        return done.stdout

    @contextlib.contextmanager
    def serving(self, text: str, urls: int = 1) -> Iterator[list[str]]:
        """A server for as long as it takes, once it has said where it listens."""
        command = self.script("exec " + text.strip())
        with subprocess.Popen(
            command, cwd=self.directory, env=self.environment(), stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                yield [process.stdout.readline() for _ in range(urls)]
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """With a CA in ``my-ca`` that knows ``device-1``."""
    with contextlib.closing(server.CA.create(tmp_path / "my-ca", "CN=Device-CA,O=Example")) as ca:
        ca.add_secret("device-1", SECRET)
    ports = {port: str(free_port()) for port in ("8080", "8290", "5683")}
    return Shell(
        tmp_path, {**ports, "coap://127.0.0.1 ": f"coap://127.0.0.1:{ports['5683']} ", "/var/spool/cmp": "spool"}
    )


def shell_blocks(page: str) -> list[str]:
    return [each.text for each in BLOCKS if each.page == page and each.language == "sh"]


def certificate(path: Path) -> str:
    return x509.load_pem_x509_certificate(path.read_bytes()).subject.rfc4514_string()


@pytest.mark.parametrize(("way", "urls"), [("--tcp", 2), ("--mailbox", 2), ("--coap", 2)], ids=["tcp", "files", "coap"])
def test_the_transfers_serve_and_enroll(shell: Shell, way: str, urls: int) -> None:
    if way == "--coap":
        pytest.importorskip("aiocoap")
    shown = shell_blocks("transfers.md")
    at = next(number for number, text in enumerate(shown) if f" {way} " in text)
    with shell.serving(shown[at].replace(" my-ca", " my-ca --port 0" if "--http" not in shown[at] else " my-ca"), urls):
        shell.run(shown[at + 1])
    assert certificate(shell.directory / "device.pem") == "CN=device-1"


def test_a_file_that_is_carried_is_answered(shell: Shell) -> None:
    shown = next(text for text in shell_blocks("transfers.md") if "ca answer" in text)
    asks, _, answers = shown.partition("opensslcmp ca answer")
    shell.run(asks, code=4)
    (request,) = (shell.directory / "exchange" / "requests").glob("*.pki")
    shell.run("opensslcmp ca answer" + answers.replace("NAME", request.stem))
    assert (shell.directory / "exchange" / "answers" / request.name).exists()


def test_the_key_that_a_server_makes(tmp_path: Path) -> None:
    script, _ = shell_blocks("keys.md")
    port = str(free_port())
    probe = "import sys, urllib.request as r; r.urlopen(f'http://127.0.0.1:{sys.argv[1]}/healthz')"
    ready = f"until {shlex.quote(sys.executable)} -c {shlex.quote(probe)} {port} 2>/dev/null; do sleep 0.1; done\n"
    script = script.replace("sleep 3\n", ready).replace("kill $CA\n", "")
    told = Shell(tmp_path, {"8080": port}).run("trap 'kill $CA; wait' EXIT\n" + script)
    assert "Private-Key: (256 bit)" in told
    assert certificate(tmp_path / "device.pem") == "CN=device-1"


def test_the_key_that_is_given_back(tmp_path: Path) -> None:
    _, script = shell_blocks("keys.md")
    port = str(free_port())
    probe = "import sys, urllib.request as r; r.urlopen(f'http://127.0.0.1:{sys.argv[1]}/healthz')"
    ready = f"until {shlex.quote(sys.executable)} -c {shlex.quote(probe)} {port} 2>/dev/null; do sleep 0.1; done\n"
    script = script.replace("sleep 3\n", ready).replace("kill $CA\n", "")
    told = Shell(tmp_path, {"8081": port}).run("trap 'kill $CA; wait' EXIT\n" + script)
    assert "the same key" in told
    (key,) = (tmp_path / "recovered").glob("*.key")
    assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.timeout(300)  # eight commands, one after the other
def test_the_registration_authority_of_the_page(tmp_path: Path) -> None:
    (script,) = shell_blocks("ra.md")
    ports = [str(free_port()), str(free_port())]
    probe = "import sys, urllib.request as r; r.urlopen(f'http://127.0.0.1:{sys.argv[1]}/healthz')"
    ready = f"until {shlex.quote(sys.executable)} -c {shlex.quote(probe)} PORT 2>/dev/null; do sleep 0.1; done\n"
    first, second, third = script.split("sleep 3\n")
    stop = "trap 'kill $CA $RA 2>/dev/null; wait' EXIT\n"
    text = stop + first + ready.replace("PORT", ports[0]) + second + ready.replace("PORT", ports[1]) + third
    listed = Shell(tmp_path, {"8080": ports[0], "8081": ports[1]}).run(text)
    assert "CN=RA" in listed
    assert "CN=device-1" in listed
    assert certificate(tmp_path / "device.pem") == "CN=device-1"


def test_an_inventory_and_renewals(tmp_path: Path, cmp_server: Server, cmp_ca: CA) -> None:
    cmp_ca.secret("factory", secret=SECRET)
    many, renew = shell_blocks("fleet.md")
    places = {
        "https://ca.example": cmp_server.url,
        "/etc/device/certificates": "fleet",
        "systemctl reload device": "touch reloaded",
        "--jitter 3600": "--jitter 0",
        "--days 30": "--days 4000",
    }
    shell = Shell(tmp_path, places)
    (tmp_path / "ca.pem").write_bytes(cmp_ca.pem)
    (tmp_path / "inventory.csv").write_text("id,subject\na,CN=a\nb,CN=b\n")
    shell.run(many)
    before = {name: (tmp_path / "fleet" / f"{name}.pem").read_bytes() for name in "ab"}
    shell.run(renew)
    for name, old in before.items():
        assert certificate(tmp_path / "fleet" / f"{name}.pem") == f"CN={name}"
        assert (tmp_path / "fleet" / f"{name}.pem").read_bytes() != old
    assert (tmp_path / "reloaded").exists()


def test_the_tutorial(tmp_path: Path) -> None:
    prepare, begin = shell_blocks("tutorial.md")
    assert "pip install '.[all]'" in prepare
    init, secret, serve = begin.strip().splitlines()
    shell = Shell(tmp_path, {"8080": str(free_port())})
    shell.run(init)
    made = shell.run(secret + '; printf %s "$SECRET"')
    program = "\n".join(each.text for each in PYTHON["tutorial.md"])
    (tmp_path / "tutorial.py").write_text(program.replace("8080", shell.replace["8080"]))
    with shell.serving(serve.removesuffix("&")):
        said = shell.run(f"{shlex.quote(sys.executable)} -W error tutorial.py", SECRET=made)
    assert said.splitlines() == ["CN=device-1 accepted", "True", "('revoked: superseded',)", "certRevoked"]
    assert (tmp_path / "device.key").stat().st_mode & 0o777 == 0o600


def test_the_servers_page(tmp_path: Path) -> None:
    begin, verify = shell_blocks("server.md")
    init, secret, serve = begin.strip().splitlines()
    port = str(free_port())
    shell = Shell(tmp_path, {"8080": port})
    init += f" --crl-url http://127.0.0.1:{port}/crl"  # as the page says beside the second block
    shell.run(init)
    made = shell.run(secret).strip()
    with shell.serving(serve):
        shell.run(
            f"opensslcmp enroll --server http://127.0.0.1:{port} --ref device-1 --secret env:SECRET --subject /CN=device-1 "
            "--newkey ec:P-256 --newkeyout device.key --certout device.pem",
            SECRET=made,
        )
        assert shell.run(verify).strip() == "device.pem: OK"
