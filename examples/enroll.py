"""A device gets, renews and revokes a certificate; the CA is in the same process, so nothing else is needed.

Run it:  python examples/enroll.py
"""

import tempfile

from opensslcmp import Context, RevocationReason, Session, SharedSecret, Signer
from opensslcmp.server import CA, open_responder
from opensslcmp.transport import InProcess


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        ca = CA.create(directory, "CN=Example CA")
        secret = ca.add_secret("device-1")
        ca.close()

        responder = open_responder(directory)
        way = InProcess(responder)  # over the network: leave it out, and name the server's URL in the Context

        first = Session(Context(credential=SharedSecret("device-1", secret)), way).enroll(
            "CN=device-1", generate="ec:P-256"
        )
        print("issued: ", first.certificate.subject.rfc4514_string(), "by", first.certificate.issuer.rfc4514_string())

        signer = Signer(first.certificate, first.key, first.chain)
        session = Session(Context(credential=signer, trusted=first.ca_certificates), way)
        second = session.update(generate="ec:P-256")
        print("renewed:", second.certificate.not_valid_after_utc)

        signer = Signer(second.certificate, second.key, second.chain)
        session = Session(Context(credential=signer, trusted=first.ca_certificates), way)
        print("revoked:", session.revoke(reason=RevocationReason.SUPERSEDED).status.text)
        responder.close()


if __name__ == "__main__":
    main()
