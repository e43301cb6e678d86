#!/usr/bin/env python3
"""The tests, and clients and servers against each other, on every OpenSSL and Python; the results as a table.

    .ci/matrix.py tests PLACE...     the whole suite in each place
    .ci/matrix.py pairs PLACE...     each place's client with each place's server, over loopback
    .ci/matrix.py tables             docs/versions.json into README.md and docs/install.md

A PLACE is ``SYSTEM=DIR``, a system of ``.ci/root`` and where its root is kept, or ``here=PYTHON``, this machine with that
interpreter. What a run finds replaces what ``docs/versions.json`` says of the same place; the tables are made from it. ``--pytest
WORDS`` gives the tests of a run other arguments; ``--as-made`` takes roots, or the interpreter's virtual environment, as they
are; ``--no-record`` only prints. Needs root, as ``.ci/root`` does.
"""

import argparse
import contextlib
import datetime
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "versions.json"
NAMES = {
    "bookworm": "Debian 12",
    "trixie": "Debian 13",
    "sid": "Debian unstable",
    "experimental": "Debian experimental",
}
TELL = """
import json, platform, subprocess
from opensslcmp.linked import features
said = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout
print(json.dumps([features().loaded.split()[1], said.split()[1], platform.python_version()]))
"""


@dataclass
class Place:
    """Somewhere with an OpenSSL, a Python and ``opensslcmp``."""

    system: str
    where: str
    openssl: str = ""
    python: str = ""
    prefix: list[str] = field(default_factory=list)
    directory: Path = Path()

    def make(self, scratch: Path, again: bool) -> None:
        """Install the committed sources there; not again in a root that has them."""
        if self.system == "here" and not again and Path(self.where).with_name("opensslcmp").exists():
            self.directory, self.prefix = ROOT, ["env", f"PATH={Path(self.where).parent}:{os.environ['PATH']}"]
        elif self.system == "here":
            self.directory = scratch / f"here-{Path(self.where).name}"
            say("git", "clone", "-q", "--no-hardlinks", ROOT, self.directory)
            home = self.directory / ".venv"
            say(self.where, "-m", "venv", home)
            say(home / "bin" / "pip", "install", "-q", "-e", f"{self.directory}[tests]")
            self.prefix = ["env", f"PATH={home / 'bin'}:{os.environ['PATH']}"]
        else:
            if again or not Path(self.where, "venv/bin/opensslcmp").exists():
                say(ROOT / ".ci" / "root", self.system, self.where, "true")
            self.directory = Path(self.where, "src")
            unshare = ["unshare", "--mount", "--propagation", "private", str(ROOT / ".ci" / "root")]
            self.prefix = [*unshare, "--inside", self.where]
        loaded, _, self.python = json.loads(self.run(["python", "-c", TELL]).stdout.splitlines()[-1])
        self.openssl = loaded

    @property
    def name(self) -> str:
        """For people."""
        if self.system == "here":
            release = dict(
                line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
            )
            return release["PRETTY_NAME"].strip('"').replace("GNU/Linux ", "").partition(" (")[0]
        return NAMES[self.system]

    def command(self, words: list[str], environment: dict[str, str] | None = None) -> list[str]:
        """Run in the sources there (for ``here``) or in the root's (``/src``)."""
        settings = [f"{name}={value}" for name, value in (environment or {}).items()]
        if self.system == "here":
            return [*self.prefix, *settings, *words]
        return [*self.prefix, "env", "-C", "/src", *settings, *words]

    def run(self, words: list[str], check: bool = True, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run to the end."""
        done = subprocess.run(
            self.command(words, environment),
            cwd=self.directory if self.system == "here" else ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
        )
        if check and done.returncode != 0:
            raise SystemExit(f"FAILED in {self.where}: {shlex.join(words)}\n{done.stdout}{done.stderr}")
        return done


def say(*words: object) -> None:
    """Run a command here."""
    print("+", *words, flush=True)
    subprocess.run([str(word) for word in words], check=True)


# -- the suite -------------------------------------------------------------------------------------------------------------


def suite(place: Place, arguments: list[str]) -> dict[str, Any]:
    """Run pytest there."""
    report = "build/results.xml"
    done = place.run(["pytest", f"--junitxml={report}", *arguments], check=False)
    print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
    (counts,) = ElementTree.parse(place.directory / report).getroot().iter("testsuite")
    failed = int(counts.attrib["failures"]) + int(counts.attrib["errors"])
    skipped = int(counts.attrib["skipped"])
    return {
        "system": place.name,
        "openssl": place.openssl,
        "python": place.python,
        "tests": " ".join(word for word in arguments if word.startswith("tests/")) or "all",
        "passed": int(counts.attrib["tests"]) - failed - skipped,
        "skipped": skipped,
        "failed": failed,
        "date": today(),
    }


# -- pairs -----------------------------------------------------------------------------------------------------------------

SERVER = """
set -eu
cd "$(mktemp -d)"
opensslcmp ca init ca --subject /O=Example/CN=Device-CA
echo "secret $(opensslcmp ca secret ca device-1)"
exec opensslcmp serve ca --port 0
"""

# ir with a shared secret; genm, kur, rr with the certificate.
OURS = """
set -eu
cd "$(mktemp -d)"
opensslcmp enroll --server "$SERVER" --ref device-1 --secret env:SECRET --subject /CN=device-1 --newkey ec:P-256 \
    --newkeyout device.key --certout device.pem --cacertsout ca.pem
opensslcmp info --server "$SERVER" --cert device.pem --key device.key --trusted ca.pem --infotype caCerts >info
grep -q CERTIFICATE info
opensslcmp update --server "$SERVER" --cert device.pem --key device.key --trusted ca.pem --newkey rsa:2048 \
    --newkeyout device.key --certout device.pem
opensslcmp revoke --server "$SERVER" --cert device.pem --key device.key --trusted ca.pem
"""

# The same, and p10cr.
THEIRS = """
set -eu
cd "$(mktemp -d)"
export OPENSSL_CONF=/dev/null
at="-config '' -server ${SERVER#http://} -path .well-known/cmp"
for name in device next; do openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $name.key 2>/dev/null; done
eval openssl cmp $at -cmd ir -ref device-1 -secret env:SECRET -newkey device.key -subject /CN=device-1 -certout device.pem \
    -cacertsout ca.pem
with="-cert device.pem -key device.key -trusted ca.pem"
eval openssl cmp $at $with -cmd genm -infotype caCerts $CACERTSOUT
openssl req -new -key next.key -subj /CN=device-1 -out next.csr
eval openssl cmp $at $with -cmd p10cr -csr next.csr -certout other.pem
eval openssl cmp $at $with -cmd kur -newkey next.key -certout next.pem
eval openssl cmp $at -cert next.pem -key next.key -trusted ca.pem -cmd rr -oldcert next.pem -revreason 1
"""

# openssl's mock server gives everybody the certificate that it was started with; ours is the client.
MOCK = """
set -eu
cd "$(mktemp -d)"
export OPENSSL_CONF=/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out cert -subj /CN=device-1 -days 9 2>/dev/null
echo "key $(base64 -w0 key)"
exec openssl cmp -config '' -port 0 -srv_ref device-1 -srv_secret pass:mock -rsp_cert cert -grant_implicitconf 2>&1
"""
WITH_MOCK = """
set -eu
cd "$(mktemp -d)"
echo "$KEY" | base64 -d >key
opensslcmp enroll --server "$SERVER" --path pkix/ --ref device-1 --secret env:SECRET --subject /CN=device-1 --newkey key \
    --unchecked --certout cert --ignore_keyusage
"""


@contextlib.contextmanager
def running(place: Place, script: str, ready: str) -> Iterator[list[str]]:
    """A server of that place: what it said until it was ready."""
    process = subprocess.Popen(
        place.command(["bash", "-c", script]),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.strip())
            if re.search(ready, line):
                break
        else:
            raise SystemExit("FAILED: a server did not start\n" + "\n".join(said))
        yield said
    finally:
        process.terminate()
        process.communicate(timeout=30)


def found(pattern: str, said: list[str]) -> str:
    """The group of the one line that has it."""
    (value,) = [match[1] for line in said if (match := re.search(pattern, line))]
    return value


def pairs(places: list[Place]) -> list[dict[str, Any]]:
    """Every client with every server."""
    results = []
    for server in places:
        with running(server, SERVER, "listening on") as said:
            settings = {"SERVER": found(r"(http://[^/\s]+)", said), "SECRET": found(r"^secret (\S+)", said)}
            for client in places:
                new = tuple(map(int, client.openssl.split(".")))[:2] >= (3, 2)
                settings["CACERTSOUT"] = "-cacertsout all.pem" if new else ""
                results.append(pair(client, server, "opensslcmp", "opensslcmp serve", OURS, settings))
                results.append(pair(client, server, "openssl cmp", "opensslcmp serve", THEIRS, settings))
        with running(server, MOCK, "ACCEPT") as said:
            port = found(r"ACCEPT .*:(\d+)", said)
            settings = {"SERVER": f"http://127.0.0.1:{port}", "SECRET": "mock", "KEY": found(r"^key (\S+)", said)}
            for client in places:
                results.append(pair(client, server, "opensslcmp", "openssl cmp -port", WITH_MOCK, settings))
    return results


def pair(
    client: Place, server: Place, program: str, serving: str, script: str, settings: dict[str, str]
) -> dict[str, Any]:
    """One client with one server."""
    done = client.run(["bash", "-c", script], check=False, **settings)
    words = f"{program} {client.openssl} with {serving} {server.openssl}"
    print(f"{'FAILED' if done.returncode else 'works '}  {words}", flush=True)
    if done.returncode:
        print(done.stdout, done.stderr, flush=True)
    return {
        "client": program,
        "client_openssl": client.openssl,
        "server": serving,
        "server_openssl": server.openssl,
        "works": done.returncode == 0,
        "date": today(),
    }


# -- results ---------------------------------------------------------------------------------------------------------------


def today() -> str:
    """In UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def version_key(text: str) -> list[int]:
    """Sorts 3.10 behind 3.9."""
    return [int(part) for part in re.findall(r"\d+", text)]


def record(kind: str, rows: list[dict[str, Any]], key: tuple[str, ...]) -> None:
    """Replace what was found before of the same place."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"suites": [], "pairs": []}
    new = {tuple(row[name] for name in key) for row in rows}
    kept = [row for row in results[kind] if tuple(row[name] for name in key) not in new]
    results[kind] = sorted([*kept, *rows], key=lambda row: [(version_key(row[name]), row[name]) for name in key])
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def suite_table(results: dict[str, Any]) -> str:
    """Which OpenSSL and Python the suite, or which part of it, ran on."""
    lines = ["| system | OpenSSL | Python | tests | passed | skipped | failed | on |", "|---" * 8 + "|"]
    for row in results["suites"]:
        words = ", ".join(word.removeprefix("tests/").removesuffix(".py") for word in row["tests"].split())
        cells = (
            {**row, "tests": words}[name]
            for name in ("system", "openssl", "python", "tests", "passed", "skipped", "failed", "date")
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def pair_table(results: dict[str, Any]) -> str:
    """A row for each client, a column for each server."""
    rows = results["pairs"]
    servers = sorted(
        {(row["server"], row["server_openssl"]) for row in rows}, key=lambda one: (one[0][8:], version_key(one[1]))
    )
    clients = sorted(
        {(row["client"], row["client_openssl"]) for row in rows}, key=lambda one: (one[0], version_key(one[1]))
    )
    works = {(row["client"], row["client_openssl"], row["server"], row["server_openssl"]): row["works"] for row in rows}
    words = {True: "works", False: "fails", None: ""}
    lines = [
        "| | " + " | ".join(f"`{name}` {openssl}" for name, openssl in servers) + " |",
        "|---" * (len(servers) + 1) + "|",
    ]
    for client in clients:
        cells = [words[works.get((*client, *server))] for server in servers]
        lines.append(f"| `{client[0]}` {client[1]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


TABLES = {"README.md": ("versions", suite_table), "docs/install.md": ("pairs", pair_table)}


def with_table(text: str, name: str, table: str) -> str:
    """The document with this table between its markers."""
    begin, end = f"<!-- {name}: .ci/matrix.py tables -->\n", f"\n<!-- end of {name} -->"
    before, _, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    assert found_end, f"no markers of {name}"
    return f"{before}{begin}{table}{end}{after}"


def tables() -> dict[Path, str]:
    """Each document as it should be."""
    results = json.loads(RESULTS.read_text())
    return {
        ROOT / path: with_table((ROOT / path).read_text(encoding="utf-8"), name, make(results))
        for path, (name, make) in TABLES.items()
    }


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tests", "pairs", "tables"])
    parser.add_argument("places", nargs="*", metavar="PLACE")
    parser.add_argument("--pytest", default="-q", help="arguments of pytest")
    parser.add_argument("--as-made", action="store_true", help="take roots as they are")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_intermixed_args()
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        places = [Place(*place.split("=", 1)) for place in options.places]
        for place in places:
            place.make(Path(scratch), not options.as_made)
        if options.what == "tests":
            for place in places:
                row = suite(place, shlex.split(options.pytest))
                print(row, flush=True)
                failed |= row["failed"] > 0
                if not options.no_record:
                    record("suites", [row], ("openssl", "python", "system", "tests"))
        elif options.what == "pairs":
            rows = pairs(places)
            failed = not all(row["works"] for row in rows)
            if not options.no_record:
                record("pairs", rows, ("client", "client_openssl", "server", "server_openssl"))
    if not options.no_record:
        for path, text in tables().items():
            path.write_text(text, encoding="utf-8")
    sys.exit(failed)


if __name__ == "__main__":
    main()
