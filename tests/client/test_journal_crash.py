"""A client that is killed over and over by signal 9, against a server in another process: nothing lost, nothing twice.

``OPENSSLCMP_CRASHES`` is how often it is killed (docs/testing.md).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from cryptography import x509

from opensslcmp import Journal
from opensslcmp.client.journal import State
from opensslcmp.client.pending import Pending
from opensslcmp.server.ca import CA
from opensslcmp.server.store import CertificateState
from tests.client.journal_client import PASSWORD, SECRET
from tests.server.web_client import environment, running

CRASHES = int(os.environ.get("OPENSSLCMP_CRASHES", "12"))


def test_a_client_that_is_killed_ends_with_one_confirmed_certificate_each(tmp_path: Path) -> None:
    directory = tmp_path / "ca"
    ca = CA.create(directory, "CN=Crash CA")
    ca.add_secret(SECRET.reference.decode(), SECRET.secret.decode())
    ca.close()
    path = tmp_path / "journal"
    with running("-m", "opensslcmp", "serve", str(directory), "--port", "0") as (url, _, _):
        command = ["-m", "tests.client.journal_client", url, str(path), str(2 * CRASHES), str(CRASHES), "1"]
        client = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
            timeout=110 + 2 * CRASHES,
        )
        assert client.returncode == 0, client.stderr
        found = re.fullmatch(r"(\d+) (\d+) (\d+)\n", client.stdout)
        assert found, client.stdout + client.stderr
        killed, _, labels = (int(each) for each in found.groups())
    assert killed == CRASHES
    ca = CA.open(directory)
    try:
        issued = Counter(
            (x509.load_der_x509_certificate(record.certificate).subject.rfc4514_string(), record.state)
            for record in ca.store.every_certificate()
        )
    finally:
        ca.close()
    assert issued == {(f"CN=device-{number}", CertificateState.VALID): 1 for number in range(labels)}
    with Journal(path, password=PASSWORD) as journal:
        assert journal.counts() == {State.OPEN: 0, State.DONE: labels, State.FAILED: 0}
        entry = journal.find("device-0")
        assert entry is not None
        key = journal.key_of(entry)
        assert key is not None
        assert key.public_key_der == Pending.load(entry.pending).public_key
