"""Inventories: rows of a file or a database, and a service that is asked."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from opensslcmp.context.protection import ProtectionKind, Verified
from opensslcmp.enums import BodyType
from opensslcmp.errors import Rejected
from opensslcmp.server.authority import CertificateRequest, Pending
from opensslcmp.server.inventory import Applicant, CSVInventory, Grant, HTTPInventory, SQLInventory
from tests.server.device import KEYS, extension, name

NAMES = x509.SubjectAlternativeName(
    [x509.DNSName("a.example"), x509.IPAddress(ip_address("192.0.2.1")), x509.RFC822Name("a@b.example")]
)


def request(subject: str = "CN=device-1,2.5.4.5=17", names: Any = None, **fields: Any) -> CertificateRequest:
    values: dict[str, Any] = {
        "kind": BodyType.IR,
        "subject": name(subject),
        "public_key": KEYS[0].public_key_der,
        "extensions": () if names is None else (extension(names),),
        "requester": Verified(kind=ProtectionKind.MAC, reference=b"r1", identity=b"mac:r1"),
        "now": datetime.now(UTC),
        "transaction_id": b"t" * 16,
    }
    return CertificateRequest(**(values | fields))


def test_an_applicant_is_what_a_request_shows() -> None:
    applicant = Applicant.of(request(names=NAMES, cert_profile="tls"))
    assert applicant.common_name == "device-1"
    assert applicant.serial == "17"
    assert applicant.reference == "r1"
    assert applicant.names == ("DNS:a.example", "IP:192.0.2.1", "email:a@b.example")
    assert applicant.profile == "tls"
    assert len(applicant.key_sha256) == 64


def csv_inventory(tmp_path: Path, text: str) -> CSVInventory:
    (tmp_path / "devices.csv").write_text(text)
    return CSVInventory(tmp_path / "devices.csv")


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ("r1,,,,,", "granted"),
        ("r2,,,,,", "not in the inventory"),
        ("r1,17,,,,", "granted"),
        ("r1,18,,,,", "not in the inventory"),
        (',,"CN=device-?,2.5.4.5=*",,,', "granted"),
        (",,CN=device-?,,,", "not in the inventory"),
        ("r1,,,cr kur,,", "no ir for this device"),
        ("r1,,,ir,,no", "refused by the inventory"),
        ("r1,,,,DNS:*.example IP:192.0.2.* email:*,", "names granted"),
        ("r1,,,,DNS:*.example IP:192.0.2.*,", "does not have email:a@b.example"),
        ("r1,,,,,", "does not have DNS:a.example"),
    ],
)
def test_a_row_is_about_who_is_all_that_it_says(tmp_path: Path, row: str, outcome: str) -> None:
    inventory = csv_inventory(tmp_path, f"reference,serial,subject,kinds,names,grant\n{row}\n")
    asked = request(names=NAMES if "have" in outcome or "names" in outcome else None)
    if "granted" in outcome:
        assert inventory.decide(asked) == Grant()
    else:
        with pytest.raises(Rejected, match=outcome):
            inventory.decide(asked)


def test_the_first_row_about_an_applicant_decides_and_may_name_another_profile(tmp_path: Path) -> None:
    inventory = csv_inventory(tmp_path, "reference,profile\nr1,tls\nr1,other\n")
    assert inventory.decide(request()) == Grant(profile="tls")


def test_a_file_that_changed_is_read_again_and_one_that_broke_lets_nobody_pass(tmp_path: Path) -> None:
    inventory = csv_inventory(tmp_path, "reference\nr2\n")
    with pytest.raises(Rejected, match="notAuthorized"):
        inventory.decide(request())
    inventory.path.write_text("reference\nr2\nr1\n")
    assert inventory.decide(request()) == Grant()
    inventory.path.write_text("reference,colour\nr1,red\n")
    with pytest.raises(Rejected, match="systemUnavail"):
        inventory.decide(request())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("reference,colour\nr1,red\n", "line 1: unknown columns: colour"),
        ("kinds\nir\n", "line 1: none of"),
        ("reference,kinds\n,ir\n", "line 2: a row that names nobody"),
        ("reference,kinds\nr1,xx\n", "line 2: no such kind"),
        ("reference,grant\nr1,perhaps\n", "line 2: grant is"),
        ("reference\nr1,more\n", "line 2: more cells"),
        ("subject\n=\n", "line 2: = is not a name"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        csv_inventory(tmp_path, text)


def test_a_query_finds_a_device_by_what_it_shows(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "devices.db") as database:
        database.execute("CREATE TABLE devices (ref TEXT, number TEXT, profile TEXT, allowed TEXT)")
        database.execute("INSERT INTO devices VALUES ('r1', '17', 'tls', 'yes'), ('r2', '18', NULL, 'no')")
    database.close()
    query = "SELECT profile, allowed AS grant FROM devices WHERE ref = :reference AND number = :serial"
    inventory = SQLInventory(f"sqlite:///{tmp_path / 'devices.db'}", query)
    assert inventory.decide(request()) == Grant(profile="tls")
    with pytest.raises(Rejected, match="not in the inventory"):
        inventory.decide(request("CN=device,2.5.4.5=99"))
    inventory.close()


def test_a_database_that_fails_is_system_unavail(tmp_path: Path) -> None:
    inventory = SQLInventory(f"sqlite:///{tmp_path / 'none.db'}", "SELECT * FROM nothing")
    with pytest.raises(Rejected, match="systemUnavail"):
        inventory.decide(request())
    inventory.close()
    with pytest.raises(ValueError, match="SQLAlchemy"):
        SQLInventory("nonsense", "SELECT 1")


@pytest.fixture
def service() -> Iterator[tuple[str, dict[str, Any], list[Any]]]:
    """A service on a port of this machine: its URL, what it answers, what it was asked."""
    answer: dict[str, Any] = {"status": 200, "content": {"grant": True}}
    asked: list[Any] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps(answer["content"]).encode()
            self.send_response(answer["status"])
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", answer, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_service_decides(service: tuple[str, dict[str, Any], list[Any]]) -> None:
    url, answer, asked = service
    inventory = HTTPInventory(url)
    assert inventory.decide(request()) == Grant()
    assert asked[0]["serial"] == "17"
    answer["content"] = {"grant": True, "profile": "tls"}
    assert inventory.decide(request()) == Grant(profile="tls")
    answer["content"] = {"grant": False, "text": "stolen"}
    with pytest.raises(Rejected, match="stolen"):
        inventory.decide(request())
    answer.update(status=202, content={"retry_after": 30})
    assert inventory.decide(request()) == Pending(check_after_seconds=30)


@pytest.mark.parametrize(("status", "content"), [(500, {"grant": True}), (302, {"grant": True}), (200, ["grant"])])
def test_a_service_that_fails_is_system_unavail(
    service: tuple[str, dict[str, Any], list[Any]], status: int, content: Any
) -> None:
    url, answer, _ = service
    answer.update(status=status, content=content)
    with pytest.raises(Rejected, match="systemUnavail"):
        HTTPInventory(url).decide(request())


def test_a_service_has_a_url_of_http() -> None:
    with pytest.raises(ValueError, match="HTTP"):
        HTTPInventory("ftp://example/")
