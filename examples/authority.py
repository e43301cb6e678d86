"""An authority of your own: it issues for devices of an inventory only, and leaves the rest to the CA.

Run it:  python examples/authority.py
"""

import tempfile

from cryptography import x509

from opensslcmp import Context, FailureInfo, Rejected, Session, SharedSecret
from opensslcmp.context.certificates import Trust
from opensslcmp.server import CA, CertificateRequest, Issued, Responder
from opensslcmp.transport import InProcess

INVENTORY = {"device-1", "device-2"}


class InventoryCA(CA):
    """Knows its devices by common name."""

    def issue(self, request: CertificateRequest) -> Issued:
        subject = x509.Name.from_bytes(request.subject or b"0\0")
        names = {each.value for each in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)}
        if not names or not names <= INVENTORY:
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "no such device")
        return super().issue(request)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        ca = InventoryCA.create(directory, "CN=Example CA")
        secret = ca.add_secret("factory")
        responder = Responder(ca, ca.store, ca.signer, secrets=ca.secrets.find, trust=Trust([ca.certificate]))
        session = Session(Context(credential=SharedSecret("factory", secret)), InProcess(responder))
        for name in ("device-1", "toaster"):
            try:
                issued = session.enroll(f"CN={name}", generate="ec:P-256")
            except Rejected as error:
                print(f"{name}: {error}")
            else:
                print(f"{name}: certificate {issued.certificate.serial_number:x}")
        responder.close()


if __name__ == "__main__":
    main()
