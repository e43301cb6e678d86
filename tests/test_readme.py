"""What README, help texts and examples say to type works when typed."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from opensslcmp.__main__ import main
from opensslcmp.cli import exits
from opensslcmp.cli.exits import Exit
from opensslcmp.cli.main import EXAMPLES, app
from tests.server.web_client import running

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
PLACE = "127.0.0.1:8080"

Shell = Callable[..., "subprocess.CompletedProcess[str]"]


def block(heading: str, language: str = "sh") -> str:
    """The first code block under a heading of the README."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs a script where ``opensslcmp`` is this very package, in an empty directory."""
    paths = os.pathsep.join([str(ROOT), *sys.path[1:]])
    prelude = f'set -e\nopensslcmp() {{ {shlex.quote(sys.executable)} -m opensslcmp "$@"; }}\n'

    def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"PYTHONPATH": paths, "OPENSSL_CONF": "/dev/null", "COLUMNS": "120"} | environment
        command = ["bash", "-c", prelude + script]
        result = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False
        )
        assert result.returncode == 0, (script, result.stdout, result.stderr)
        return result

    return run


@pytest.fixture
def served(shell: Shell, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The README's three commands; ``host:port`` and the secret."""
    init, secret, serve = block("A server in three commands").strip().splitlines()
    assert serve == "opensslcmp serve my-ca --port 8080 &"
    shell(init)
    made = shell(secret + "\nprintenv SECRET").stdout.strip()
    with running("-m", "opensslcmp", "serve", str(tmp_path / "my-ca"), "--port", "0") as (_, host, port):
        yield f"{host}:{port}", made


def test_the_first_enrollment_in_python_works(shell: Shell, served: tuple[str, str]) -> None:
    place, secret = served
    code = block("A first enrollment in Python", "python").replace(PLACE, place)
    result = shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}", SECRET=secret)
    assert re.fullmatch(r"accepted CN=device-1\naccepted until \d{4}-\d\d-\d\d\n", result.stdout)


def test_the_first_enrollment_in_python_is_about_ten_lines() -> None:
    code = block("A first enrollment in Python", "python")
    assert len([line for line in code.splitlines() if line]) <= 11


def test_openssl_talks_to_the_server_as_the_readme_says(shell: Shell, served: tuple[str, str], tmp_path: Path) -> None:
    place, secret = served
    shell(block("The same with `openssl cmp`").replace(PLACE, place), SECRET=secret)
    assert (tmp_path / "next.pem").exists()


def test_our_command_line_does_the_same_as_the_readme_says(
    shell: Shell, served: tuple[str, str], tmp_path: Path
) -> None:
    place, secret = served
    result = shell(block("The same with `opensslcmp`").replace(PLACE, place), SECRET=secret)
    assert result.stdout == (tmp_path / "ca.pem").read_text()


def test_every_example_in_the_help_works_when_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path[1:]]))
    message = next((ROOT / "tests" / "data" / "cmp").glob("*.der"))
    (tmp_path / "request.der").write_bytes(message.read_bytes())

    def paste(command: str, **environment: str) -> str:
        example = EXAMPLES[command].replace("\\\n", " ").replace(PLACE, place).replace("5A:3F:09", serial)
        program, *arguments = shlex.split(example)
        assert program == "opensslcmp"
        if command == "cmp":  # takes its words as they are, before typer sees them
            with monkeypatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                assert main(arguments) == 0
            return ""
        result = CliRunner().invoke(app, arguments, env=environment)
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    order = [
        "ca init",
        "ca secret add",
        "serve",
        "enroll",
        "enroll-many",
        "renew",
        "cmp",
        "info",
        "update",
        "revoke",
        "inspect",
        "bench",
        "doctor",
        "demo",
    ]
    operator = ["ca list", "ca show", "ca revoke", "ca crl", "ca pending", "ca search", "ca secret list"]
    operator += ["ca secret rotate", "ca answer", "ca backup", "ca restore", "ca rollover", "ca secret remove"]
    decisions = ["ca approve", "ca reject"]  # tests/cli/test_authority.py has something to decide
    registration = ["ra serve", "ra secret"]  # tests/cli/test_ra_serve.py
    others = ["announce", "listen", "recover"]  # tests/cli/test_announce.py, tests/cli/test_recover.py
    assert sorted(order + operator + decisions + registration + others) == sorted(EXAMPLES)
    place, serial = PLACE, ""
    paste("ca init")
    secret = paste("ca secret add")
    assert EXAMPLES["serve"] == "opensslcmp serve my-ca --port 8080"
    with running("-m", "opensslcmp", "serve", str(tmp_path / "my-ca"), "--port", "0") as (_, host, port):
        place = f"{host}:{port}"
        (tmp_path / "inventory.csv").write_text("id,subject\ndevice-2,CN=device-2\n")
        for command in order[3:]:
            paste(command, SECRET=secret)
        serial = paste("ca list").split()[0]  # of the certificate that was updated
        for command in operator[1:]:
            paste(command, PASSPHRASE="a phrase")


@pytest.mark.parametrize("name", ["enroll.py", "authority.py", "authority_command.py", "authority_http.py"])
def test_the_examples_run(shell: Shell, name: str) -> None:
    assert shell(f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'examples' / name))}").stdout


def test_the_example_of_a_server_serves(shell: Shell, tmp_path: Path) -> None:
    shell("opensslcmp ca init mine; opensslcmp ca secret mine device")
    with running(str(ROOT / "examples" / "serve.py"), str(tmp_path / "mine")) as (url, _, _):
        assert url


def test_no_example_is_left_out() -> None:
    clients = ["ansible_module.py", "ca_handler.py", "device_bootstrap.py", "enrollment_service.py"]  # test_examples.py
    clients.append("central_key_generation.py")
    found = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
    others = ["authority_command.py", "authority_http.py"]  # tests/server/test_example_authorities.py
    assert found == sorted(["authority.py", "enroll.py", "serve.py", *clients, *others])


def test_the_exit_codes_of_the_docs_are_the_ones_there_are() -> None:
    table = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", table, re.MULTILINE)
    meanings = re.findall(r"^(\d+) +[A-Z_]+ +(\S.*)$", exits.__doc__ or "", re.MULTILINE)
    assert rows == [(number, text.replace("; the message says how", "")) for number, text in meanings]
    assert [int(number) for number, _ in rows] == [int(code) for code in Exit]


def headings(document: Path) -> set[str]:
    """The anchors that a Markdown file has, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", line.lower()).replace(" ", "-") for line in found}


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS], ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        place = document.parent / path if path else document
        assert place.exists(), target
        assert not anchor or anchor in headings(place), target


FILES = r"`((?:opensslcmp|tests|examples|docs|benchmarks|\.ci)/[\w./-]+|[a-z_]+/[a-z_0-9]+\.py)`"


@pytest.mark.parametrize("document", [ROOT / "README.md", *DOCS], ids=lambda path: path.name)
def test_files_that_are_mentioned_exist(document: Path) -> None:
    for name in re.findall(FILES, document.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or (ROOT / "opensslcmp" / name).exists(), name


def test_every_page_is_linked_from_the_readme() -> None:
    assert [page.name for page in DOCS if f"(docs/{page.name})" not in README] == []


def test_every_page_is_on_the_site() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = {
        line for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.M | re.S) for line in tree.splitlines()
    }
    assert {page.stem for page in DOCS if page.name != "index.md"} - listed == set()


def test_each_command_that_sets_up_is_one_line() -> None:
    for heading in ("See it work", "Run the tests"):
        assert len(block(heading).strip().splitlines()) == 1
