"""A device that cannot make good keys lets the CA make its key (RFC 9483, 4.1.6): both ends, in one process.

python examples/central_key_generation.py
"""

import tempfile
from pathlib import Path

from opensslcmp import Context, Session, SharedSecret, Signer
from opensslcmp.server import CA, open_responder
from opensslcmp.transport import InProcess


def main() -> None:
    """Show it."""
    with tempfile.TemporaryDirectory() as directory:
        # "opensslcmp ca init my-ca --kga" does the same.
        ca = CA.create(Path(directory) / "ca", "CN=Device CA", key_generation=True)
        secret = ca.add_secret("device-1")
        ca.close()
        responder = open_responder(Path(directory) / "ca")
        way = InProcess(responder)
        try:
            session = Session(Context(credential=SharedSecret("device-1", secret)), way)
            issued = session.enroll("CN=device-1", generate="central:ec:P-384")
            assert issued.key is not None
            print(f"issued: {issued.certificate.subject.rfc4514_string()}, with {issued.key}")
            # The key is an ordinary one from here on.
            signer = Signer(issued.certificate, issued.key, issued.chain)
            session = Session(Context(credential=signer, trusted=issued.ca_certificates), way)
            renewed = session.update(generate="ec:P-256")
            print(f"renewed: {renewed.certificate.subject.rfc4514_string()}, with a key of its own")
        finally:
            responder.close()


if __name__ == "__main__":
    main()
