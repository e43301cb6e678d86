"""A CA that knows only PKCS#10 in and certificate out: ``PKCS10Authority`` over a command or an HTTP service.

The request goes up as the entity signed it, so an entity asks by p10cr: nobody but the holder of the key can sign a PKCS#10
request, and an ir, cr or kur holds none. Those are refused with badRequest.

What blocks runs in a thread under ``handle_async``. A command or service may be asked twice for the same request, when a worker
died meanwhile or another one was faster: it is told the transaction each time, and is to answer the same.
"""

from __future__ import annotations

import base64
import logging
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opensslcmp.asn1 import InfoTypeAndValue, admit, encode_info, oids, outline
from opensslcmp.context.certificates import facts
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import Rejected
from opensslcmp.server.authority import CertificateRequest, InfoRequest, Issued, Pending, RevocationRequest
from opensslcmp.server.inventory import Inventory
from opensslcmp.server.upstream import give_way

__all__ = ["Decision", "PKCS10Authority", "by_command", "by_http"]

logger = logging.getLogger("opensslcmp.server")

_LONGEST = 256 * 1024
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a CA says to a PKCS#10 request: certificates, "later", or neither, which is no.

    Attributes:
        certificates: PEM or DER; the new one first, then its chain.
        text: why not.
        check_after_seconds: when to ask again; None: it has decided.
    """

    certificates: bytes = b""
    text: str = ""
    check_after_seconds: int | None = None


class PKCS10Authority:
    """Hands PKCS#10 requests on. May be used by several threads at once, and under ``handle_async``.

    Args:
        ask: gets the request (PEM) and what names it, hexadecimal digits; what it raises is systemUnavail for the entity.
        issuer: DER of the certificate that issues; what it has not signed never reaches an entity.
        chain: DER of the certificates above it.
        inventory: who gets what; it cannot change a request.
        revoke: gets issuer (DER of the Name), serial number and reason of a certificate that is to be revoked; None: nothing
            is revoked here, and what an entity does not confirm only here.
    """

    proofs = frozenset(("signature", "raVerified"))
    """Of possession: what is proved by decryption only who encrypted it could tell."""

    def __init__(
        self,
        ask: Callable[[bytes, str], Decision],
        issuer: bytes,
        chain: Sequence[bytes] = (),
        *,
        inventory: Inventory | None = None,
        revoke: Callable[[bytes, int, str], None] | None = None,
    ) -> None:
        self.certificate = issuer
        self._chain = (issuer, *chain)
        self._ask = ask
        self._inventory = inventory
        self._revoke = revoke
        self._issuer = x509.load_der_x509_certificate(issuer)

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        """A certificate of the CA, or "later"."""
        if request.kind is not BodyType.P10CR or request.message is None:
            raise Rejected(FailureInfo.BAD_REQUEST, "this CA takes PKCS#10 requests only: ask by p10cr")
        if self._inventory is not None and request.pending is None:
            decided = self._inventory.decide(request)
            if isinstance(decided, Pending):
                return decided
            if decided.changes_template:
                raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "the inventory grants another certificate")
        encoded = base64.encodebytes(admit(request.message).body_der)
        pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + encoded + b"-----END CERTIFICATE REQUEST-----\n"
        try:
            decision = give_way(self._ask, pem, request.transaction_id.hex())
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            logger.error("the certification authority failed: %s", error)
            raise Rejected(
                FailureInfo.SYSTEM_UNAVAIL, "the certification authority cannot be asked; try again later"
            ) from None
        if decision.check_after_seconds is not None:
            return Pending(
                check_after_seconds=min(max(decision.check_after_seconds, 1), 86400),
                text=decision.text,
                reference=b"asked",
            )
        if not decision.certificates:
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, decision.text or "refused")
        return Issued(
            certificate=self._checked(decision.certificates, request.public_key),
            chain=self._chain,
            ca_certificates=self._chain[-1:],
        )

    def _checked(self, certificates: bytes, public_key: bytes) -> bytes:
        """DER of the certificate, which is for this key and signed by our issuer.

        Raises:
            RuntimeError: it is not.
        """
        try:
            pem = _PEM.search(certificates)
            issued = x509.load_pem_x509_certificate(pem[0]) if pem else x509.load_der_x509_certificate(certificates)
            spki = issued.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            issued.verify_directly_issued_by(self._issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise RuntimeError("the certification authority gave no certificate of its issuer") from error
        der = issued.public_bytes(Encoding.DER)
        if spki != public_key and outline(der)[4] != public_key:
            raise RuntimeError("the certification authority certified another key")
        return der

    def confirm(self, issued: Issued, accepted: bool) -> None:
        """The CA is told to revoke what nobody took, where it can be told."""
        if not accepted and self._revoke is not None:
            about = facts(issued.certificate)
            give_way(self._revoke, about.issuer, about.serial_number, "unspecified")

    def revoke(self, request: RevocationRequest) -> None:
        """The CA is told to revoke it, where it can be told."""
        if self._revoke is None:
            raise Rejected(FailureInfo.BAD_REQUEST, "this CA does not revoke by CMP")
        give_way(self._revoke, request.issuer, request.serial_number, request.reason.text)

    def info(self, request: InfoRequest) -> list[InfoTypeAndValue]:
        """The CA's certificates; nothing else is known here."""
        if request.oid != oids.IT_CA_CERTS:
            return []
        return [encode_info(oids.IT_CA_CERTS, list(self._chain))]


def by_command(command: Sequence[str], *, timeout_seconds: float = 20.0) -> Callable[[bytes, str], Decision]:
    """Asks a command: the request in PEM on its stdin, ``TRANSACTION`` in its environment, certificates on its stdout.

    It is started without a shell, and ends with 0 when stdout has the certificates, with 1 when stdout says why not, with 2 when
    it is to be asked again (stdout: in how many seconds). Anything else, and nothing in time, is systemUnavail.

    Args:
        command: program and arguments; nothing of an entity is put among them.
        timeout_seconds: after which it is killed.
    """
    program = list(command)

    def ask(request: bytes, name: str) -> Decision:
        done = subprocess.run(
            program,
            input=request,
            capture_output=True,
            timeout=timeout_seconds,
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TRANSACTION": name},
            check=False,
        )
        said = done.stdout[:_LONGEST]
        if done.returncode == 0:
            return Decision(certificates=said)
        if done.returncode == 1:
            return Decision(text=said.decode("utf-8", "replace").strip()[:200])
        if done.returncode == 2:
            words = said.split()
            return Decision(check_after_seconds=int(words[0]) if words else 60)
        raise ValueError(f"the command ended with {done.returncode}: {done.stderr[-500:]!r}")

    return ask


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """None: what answers with a redirection has failed."""


def by_http(
    url: str, *, headers: Mapping[str, str] | None = None, timeout_seconds: float = 20.0
) -> Callable[[bytes, str], Decision]:
    """Asks an HTTP service: the request in PEM by POST (application/x-pem-file), with Idempotency-Key.

    200 and 201 bring certificates, 202 says later (Retry-After: seconds), 400, 403 and 422 say no, the content why.
    Anything else, and nothing in time, is systemUnavail.

    Args:
        headers: sent along, such as Authorization.

    Raises:
        ValueError: the URL is not one of HTTP or HTTPS.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError("the URL is not one of HTTP")
    opener = urllib.request.build_opener(_NoRedirect)

    def ask(request: bytes, name: str) -> Decision:
        fields = {"Content-Type": "application/x-pem-file", "Idempotency-Key": name, **(headers or {})}
        posted = urllib.request.Request(url, data=request, headers=fields, method="POST")
        try:
            with opener.open(posted, timeout=timeout_seconds) as answer:
                if answer.status == 202:
                    later = answer.headers.get("Retry-After", "")
                    return Decision(check_after_seconds=int(later) if later.isdecimal() else 60)
                return Decision(certificates=answer.read(_LONGEST))
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in {400, 403, 422}:
                    raise
                return Decision(text=error.read(1000).decode("utf-8", "replace").strip()[:200])

    return ask
