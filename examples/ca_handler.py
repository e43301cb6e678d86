"""A CA handler for acme2certifier: an ACME server in front, any CMP CA behind.

acme2certifier (an ACME server in Python) imports a class ``CAhandler`` and calls its methods; it speaks base64 of DER. Each
method here is one call of a ``Session``. The ACME server is a registration authority to the CA: it asks for others, with a
certificate of its own. Where that is stands in the environment. Run as a program, this file shows itself with a CA:

    python examples/ca_handler.py
"""

import base64
import logging
import os
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from opensslcmp import CMPError, Context, Pending, Rejected, RevocationReason, Session, SharedSecret, Signer
from opensslcmp.server import CA, open_responder
from opensslcmp.transport import InProcess

PEM = serialization.Encoding.PEM


class CAhandler:
    """What acme2certifier asks of a handler."""

    def __init__(self, debug=False, logger=None, way=None):
        self.logger = logger or logging.getLogger(__name__)
        signer = Signer(os.environ["CMP_CERT"], os.environ["CMP_KEY"])
        context = Context(os.environ.get("CMP_SERVER"), credential=signer, trusted=[os.environ["CMP_TRUSTED"]])
        self.session = Session(context, way)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.session.context.close()

    def enroll(self, csr):
        """(error, certificate with its chain in PEM, certificate in base64, what to poll with)."""
        try:
            # The CA may need a person's approval: do not wait, ACME asks again.
            return self._answer(self.session.enroll_csr(_decode(csr), wait=False))
        except (CMPError, ValueError) as error:
            return str(error), None, None, None

    def poll(self, cert_name, poll_identifier, csr):
        """The same for an enrollment that had to wait, and whether it was refused."""
        try:
            pending = Pending.load(base64.b64decode(poll_identifier))
            return (*self._answer(self.session.resume(pending, wait=False)), False)
        except Rejected as refusal:
            return str(refusal), None, None, poll_identifier, True
        except CMPError as error:  # no answer this time: ask again later
            return str(error), None, None, poll_identifier, False

    def revoke(self, cert, rev_reason="unspecified", rev_date=None):
        """(HTTP status, ACME error, its text)."""
        try:
            # ACME names reasons by number (RFC 5280, 5.3.1); 0 is unspecified.
            reason = RevocationReason(0 if rev_reason == "unspecified" else int(rev_reason))
            self.session.revoke(_decode(cert), reason=reason)
        except (CMPError, ValueError) as error:
            self.logger.error("revocation failed: %s", error)
            return 500, "urn:ietf:params:acme:error:serverInternal", str(error)
        return 200, None, None

    def trigger(self, payload):
        """CMP has no messages from the CA to us that could trigger anything."""
        return "not supported: a CMP client asks, it is not called", None, None

    def _answer(self, result):
        if isinstance(result, Pending):
            return None, None, None, base64.b64encode(result.save()).decode()
        bundle = b"".join(each.public_bytes(PEM) for each in (result.certificate, *result.chain))
        der = result.certificate.public_bytes(serialization.Encoding.DER)
        return None, bundle.decode(), base64.b64encode(der).decode(), None


def _decode(text):
    """Base64 or base64url, padded or not, as ACME messages have it."""
    return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))


def main():
    with tempfile.TemporaryDirectory() as directory:
        ca = CA.create(directory, "CN=Example CA")
        secret = SharedSecret("acme", ca.add_secret("acme"))
        ca.close()
        # The certificate of the ACME server, which the CA then knows for a registration authority.
        with Session(Context(credential=secret), InProcess(open_responder(directory))) as session:
            own = session.enroll("CN=ACME server", generate="ec:P-256")
        files = {"CMP_CERT": own.certificate.public_bytes(PEM), "CMP_KEY": own.key.to_pem()}
        files["CMP_TRUSTED"] = own.ca_certificates[0].public_bytes(PEM)
        for name, content in files.items():
            os.environ[name] = os.path.join(directory, name)
            Path(os.environ[name]).write_bytes(content)
        key = ec.generate_private_key(ec.SECP256R1())
        csr = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "www.example")]))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("www.example")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        encoded = base64.urlsafe_b64encode(csr.public_bytes(serialization.Encoding.DER)).decode().rstrip("=")
        known = own.certificate.fingerprint(hashes.SHA256())
        responder = open_responder(directory, registration_authorities=[known])
        with CAhandler(way=InProcess(responder)) as handler:
            error, bundle, certificate, _ = handler.enroll(encoded)
            print(error or bundle)
            print("revoked:", handler.revoke(certificate, 4))
        responder.close()


if __name__ == "__main__":
    main()
