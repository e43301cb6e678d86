"""A device's life: a secret from the factory for its first certificate, that certificate for all the others.

Everything is in one directory, so that the program can be run from a timer and does what is due:

    no certificate yet     ask for one, authenticated by the secret (ir); learn the CA's certificate from the answer
    it ends soon           renew it, authenticated by itself, with a new key (kur)
    else                   nothing

    python examples/device_bootstrap.py                        shows it with a CA of its own
    python examples/device_bootstrap.py URL DIRECTORY [DAYS]   does it; $REFERENCE and $SECRET come from the factory
"""

import os
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp import Context, Issued, PrivateKey, Session, SharedSecret, Signer
from opensslcmp.server import CA, open_responder
from opensslcmp.transport import InProcess


class Device:
    """The files of a device, and what to do about them."""

    def __init__(self, directory: Path, url: str | None = None, way: InProcess | None = None) -> None:
        self.certificate, self.key, self.trusted = (directory / name for name in ("dev.pem", "dev.key", "ca.pem"))
        self.url, self.way = url, way

    def run(self, before: timedelta) -> str:
        """Do what is due; ``before`` is how long before its end a certificate is renewed."""
        if not self.certificate.exists():
            return self.first()
        end = x509.load_pem_x509_certificate(self.certificate.read_bytes()).not_valid_after_utc
        if end - datetime.now(UTC) < before:
            return self.renewed()
        return f"good until {end:%Y-%m-%d}"

    def first(self) -> str:
        """The first certificate."""
        secret = SharedSecret(os.environ["REFERENCE"], os.environ["SECRET"].encode())
        with Session(Context(self.url, credential=secret), self.way) as session:
            # The answer is protected by the secret, so the CA's certificate in it can be believed: caPubs.
            key = self.kept_key(self.key)
            issued = session.enroll(f"CN={os.environ['REFERENCE']}", key)
        self.trusted.write_bytes(pem(*issued.ca_certificates))
        return self.keep(issued, key, "issued")

    def renewed(self) -> str:
        """The next certificate, with a key of its own."""
        signer = Signer(self.certificate, self.key)
        with Session(Context(self.url, credential=signer, trusted=[self.trusted]), self.way) as session:
            # The new key is on the disk before the CA hears of it: power may fail at any moment.
            key = self.kept_key(self.key.with_suffix(".next"))
            issued = session.update(key=key)
        return self.keep(issued, key, "renewed")

    def kept_key(self, place: Path) -> PrivateKey:
        """The key in a file, made if it is not there: after a failure the same one is tried again."""
        if not place.exists():
            write(place, PrivateKey.generate("ec:P-256").to_pem())
        return PrivateKey.load(place)

    def keep(self, issued: Issued, key: PrivateKey, what: str) -> str:
        """Put certificate and key where they belong, each at once."""
        write(self.key, key.to_pem())
        write(self.certificate, pem(issued.certificate, *issued.chain))
        self.key.with_suffix(".next").unlink(missing_ok=True)
        return f"{what}: {issued.certificate.subject.rfc4514_string()}, {issued.certificate.serial_number:x}"


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def write(place: Path, content: bytes) -> None:
    """Replace a file; only its owner may read it."""
    beside = place.with_suffix(".new")
    beside.touch(mode=0o600)
    beside.write_bytes(content)
    beside.replace(place)


def main() -> None:
    if len(sys.argv) > 2:
        days = int(sys.argv[3]) if len(sys.argv) > 3 else 30
        print(Device(Path(sys.argv[2]), sys.argv[1]).run(timedelta(days=days)))
        return
    with tempfile.TemporaryDirectory() as directory:
        ca = CA.create(Path(directory) / "ca", "CN=Example CA")
        os.environ |= {"REFERENCE": "device-1", "SECRET": ca.add_secret("device-1").decode()}
        ca.close()
        responder = open_responder(Path(directory) / "ca")
        device = Device(Path(directory), way=InProcess(responder))
        for before in (0, 0, 100_000):  # the last time the certificate counts as ending soon
            print(device.run(timedelta(days=before)))
        responder.close()


if __name__ == "__main__":
    main()
