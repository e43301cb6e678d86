"""Who gets which certificate: what a registration authority looks up before it asks its CA.

``CSVInventory``, ``SQLInventory`` and ``HTTPInventory`` know devices by what a request shows of them (``Applicant``). The
first two have rows: a row is about an applicant when each of its cells that names one is so, and grants what its other cells
say. Columns:

===================  ==================================================================================================
reference            of the shared secret that protects the request
certificate_sha256   of the certificate that signs it, in hexadecimal
key_sha256           of the SubjectPublicKeyInfo to be certified, in hexadecimal
serial               serialNumber in the subject
subject              of the certificate, as RFC 4514 writes it, with ``*`` and ``?`` (``names.NamePattern``)
-------------------  --------------------------------------------------------------------------------------------------
names                subjectAltNames that may be asked for: ``DNS:a.example``, ``IP:192.0.2.1``, ``email:``, ``URI:``, with
                     ``*`` and ``?``, separated by blanks; ``*`` is any, and nothing means none
kinds                of requests: ``ir cr kur p10cr``; nothing means any
profile              certProfile for the CA; nothing means the one that was asked for
grant                ``yes`` (also nothing) or ``no``
text                 why not, for people
===================  ==================================================================================================

The first row that is about an applicant decides. One that no row is about is refused with notAuthorized. A row without any of
the first five columns is about nobody.
"""

from __future__ import annotations

import csv
import hashlib
import ipaddress
import json
import logging
import threading
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509

from opensslcmp.asn1 import Extension, elements, unwrap
from opensslcmp.context.certificates import facts
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import Rejected
from opensslcmp.server.authority import CertificateRequest, Pending
from opensslcmp.server.names import NamePattern
from opensslcmp.server.upstream import give_way

__all__ = [
    "Applicant",
    "CSVInventory",
    "Grant",
    "HTTPInventory",
    "Inventory",
    "SQLInventory",
    "decide_by_row",
    "is_about",
]

logger = logging.getLogger("opensslcmp.server")

_SAN = "2.5.29.17"
_KINDS_OF_NAMES = {0x81: "email", 0x82: "DNS", 0x86: "URI"}

_WHO = ("reference", "certificate_sha256", "key_sha256", "serial", "subject")
_WHAT = ("names", "kinds", "profile", "grant", "text")
_KINDS = frozenset(("ir", "cr", "kur", "p10cr"))
_LONGEST_ANSWER = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What is granted; the request as it is, but for what is said here.

    Attributes:
        subject: DER of the Name, in place of the one asked for.
        extensions: in place of those asked for.
        profile: certProfile for the CA, in place of the one named.
        text: what was changed, for people.
    """

    subject: bytes | None = None
    extensions: tuple[Extension, ...] | None = None
    profile: str | None = None
    text: str = "changed by the registration authority"

    @property
    def changes_template(self) -> bool:
        """The template is not what the entity asked for."""
        return self.subject is not None or self.extensions is not None


class Inventory(Protocol):
    """Knows who gets what. May be called from several threads at once."""

    def decide(self, request: CertificateRequest) -> Grant | Pending:
        """What is granted, or "later".

        Raises:
            Rejected: it is refused.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Applicant:
    """What a request shows of who asks, and for what, in words.

    Attributes:
        kind: ``ir``, ``cr``, ``kur`` or ``p10cr``.
        subject: as RFC 4514 writes it; empty when none is asked for.
        common_name, serial: the first of the subject; empty when there is none.
        names: subjectAltNames, such as ``DNS:a.example``.
        reference: of the shared secret; empty for a signature.
        certificate_sha256: of the signer; empty for a shared secret.
        key_sha256: of the SubjectPublicKeyInfo.
        profile: certProfile asked for.
        address: of the peer.
    """

    kind: str
    subject: str
    common_name: str
    serial: str
    names: tuple[str, ...]
    reference: str
    certificate_sha256: str
    key_sha256: str
    profile: str
    address: str

    @classmethod
    def of(cls, request: CertificateRequest) -> Applicant:
        """Who asks by this request.

        Raises:
            Rejected: badCertTemplate, its names do not decode.
        """
        try:
            subject = x509.Name([]) if request.subject is None else x509.Name.from_bytes(request.subject)
            names = tuple(_names(request.extensions))
        except ValueError as error:
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "a name that does not decode") from error
        requester = request.requester

        def first(oid: x509.ObjectIdentifier) -> str:
            return next((_text(each.value) for each in subject.get_attributes_for_oid(oid)), "")

        return cls(
            kind=request.kind.text,
            subject=subject.rfc4514_string(),
            common_name=first(x509.NameOID.COMMON_NAME),
            serial=first(x509.NameOID.SERIAL_NUMBER),
            names=names,
            reference=(requester.reference or b"").decode("utf-8", "backslashreplace"),
            certificate_sha256="" if requester.certificate is None else facts(requester.certificate).fingerprint.hex(),
            key_sha256=hashlib.sha256(request.public_key).hexdigest(),
            profile=request.cert_profile or "",
            address=request.peer.address or "",
        )


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.hex()


def _names(extensions: Iterable[Extension]) -> Iterable[str]:
    """The subjectAltNames, each with its kind before it; a kind without a name of its own is ``other:`` and its DER."""
    for each in extensions:
        if each.oid != _SAN:
            continue
        for start, end in elements(each.extn_value):
            item = each.extn_value[start:end]
            content = unwrap(item)
            if item[0] in _KINDS_OF_NAMES:
                yield f"{_KINDS_OF_NAMES[item[0]]}:{content.decode('ascii')}"
            elif item[0] == 0x87:
                yield f"IP:{ipaddress.ip_address(content)}"
            elif item[0] == 0xA4:
                yield f"dirName:{x509.Name.from_bytes(content).rfc4514_string()}"
            else:
                yield f"other:{item.hex()}"


# -- rows ----------------------------------------------------------------------------------------------------------


def decide_by_row(row: Mapping[str, str], applicant: Applicant) -> Grant:
    """What a row grants an applicant whom it is about.

    Raises:
        Rejected: notAuthorized; badCertTemplate for names that it does not have.
    """
    if row.get("grant", "").lower() not in {"", "yes"}:
        raise Rejected(FailureInfo.NOT_AUTHORIZED, row.get("text") or "refused by the inventory")
    kinds = row.get("kinds", "").split()
    if kinds and applicant.kind not in kinds:
        raise Rejected(FailureInfo.NOT_AUTHORIZED, f"the inventory has no {applicant.kind} for this device")
    allowed = row.get("names", "").split()
    for name in applicant.names:
        if not any(fnmatchcase(name.lower(), each.lower()) for each in allowed):
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, f"the inventory does not have {name} for this device")
    return Grant(profile=row.get("profile") or None)


def is_about(row: Mapping[str, str], applicant: Applicant, subject: bytes | None) -> bool:
    """Each cell of the row that names an applicant names this one, and there is one at least."""
    named = [column for column in _WHO if row.get(column)]
    for column in named:
        if column == "subject":
            if not NamePattern(row[column]).matches(subject or b"0\0"):
                return False
        elif column.endswith("_sha256"):
            if row[column].replace(":", "").lower() != getattr(applicant, column):
                return False
        elif row[column] != getattr(applicant, column):
            return False
    return bool(named)


def _unknown() -> Rejected:
    return Rejected(FailureInfo.NOT_AUTHORIZED, "not in the inventory")


class CSVInventory:
    """Rows of a CSV file (RFC 4180) in UTF-8 with a line of column names. It is read again when it changed.

    A file that cannot be used once it was changed lets nobody pass, and the log says why.

    Args:
        path: of the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it has columns that are not known, or cells that make no sense; the text names the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._rows: list[dict[str, str]] = []
        self._current()

    def decide(self, request: CertificateRequest) -> Grant:
        """As ``Inventory``."""
        try:
            rows = self._current()
        except (OSError, ValueError):
            logger.exception("the inventory cannot be used: %s", self.path)
            raise Rejected(FailureInfo.SYSTEM_UNAVAIL, "the inventory cannot be read; try again later") from None
        applicant = Applicant.of(request)
        for row in rows:
            if is_about(row, applicant, request.subject):
                return decide_by_row(row, applicant)
        raise _unknown()

    def _current(self) -> list[dict[str, str]]:
        status = self.path.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        with self._lock:
            if stamp != self._stamp:
                self._rows = _read_rows(self.path)
                self._stamp = stamp
            return self._rows


def _read_rows(path: Path) -> list[dict[str, str]]:
    rows = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            unknown = set(reader.fieldnames or ()) - {*_WHO, *_WHAT}
            if unknown or not set(reader.fieldnames or ()) & set(_WHO):
                words = f"unknown columns: {', '.join(sorted(unknown))}" if unknown else f"none of {', '.join(_WHO)}"
                raise ValueError(f"{path}, line 1: {words}")
            for row in reader:
                rows.append(_checked_row({name: (cell or "").strip() for name, cell in row.items() if name}, row))
        except (csv.Error, ValueError) as error:
            place = "" if str(error).startswith(str(path)) else f"{path}, line {reader.line_num}: "
            raise ValueError(f"{place}{error}") from None
    return rows


def _checked_row(row: dict[str, str], read: Mapping[Any, Any]) -> dict[str, str]:
    if None in read:
        raise ValueError("more cells than columns")
    if not any(row.get(column) for column in _WHO):
        raise ValueError(f"a row that names nobody: one of {', '.join(_WHO)} is needed")
    if row.get("subject"):
        NamePattern(row["subject"])
    if unknown := set(row.get("kinds", "").split()) - _KINDS:
        raise ValueError(f"no such kind of request: {', '.join(sorted(unknown))}")
    if row.get("grant", "").lower() not in {"", "yes", "no"}:
        raise ValueError("grant is yes or no")
    return row


class SQLInventory:
    """Rows of a database, by a query of your own.

    Args:
        url: of SQLAlchemy, such as ``postgresql+psycopg://ra@db.example/devices`` or ``sqlite:///devices.db``.
        query: gives rows with the columns above. It may use ``:reference``, ``:subject``, ``:common_name``, ``:serial``,
            ``:key_sha256``, ``:certificate_sha256``, ``:kind``, ``:profile`` and ``:address``, and is to select by them:
            a row that comes back is about the applicant, whatever its columns say beside those that grant.
        timeout_seconds: for a connection of the pool.

    Raises:
        ImportError: SQLAlchemy or the driver is missing.
        ValueError: the URL is none.
    """

    def __init__(self, url: str, query: str, *, timeout_seconds: float = 10.0) -> None:
        import sqlalchemy

        try:
            pool = {} if url.startswith("sqlite") else {"pool_timeout": timeout_seconds}
            self._engine = sqlalchemy.create_engine(url, pool_pre_ping=True, hide_parameters=True, **pool)
        except sqlalchemy.exc.ArgumentError:
            raise ValueError("the inventory's URL is not one of SQLAlchemy") from None
        self._query = sqlalchemy.text(query)
        self._failed = sqlalchemy.exc.SQLAlchemyError

    def decide(self, request: CertificateRequest) -> Grant:
        """As ``Inventory``."""
        applicant = Applicant.of(request)
        try:
            row = give_way(self._first, applicant)
        except self._failed:
            logger.exception("the inventory's database failed")
            raise Rejected(FailureInfo.SYSTEM_UNAVAIL, "the inventory cannot be read; try again later") from None
        if row is None:
            raise _unknown()
        return decide_by_row(row, applicant)

    def _first(self, applicant: Applicant) -> dict[str, str] | None:
        known = asdict(applicant) | {"names": " ".join(applicant.names)}
        values = {name: known[name] for name in self._query.compile().params}
        with self._engine.connect() as connection:
            found = connection.execute(self._query, values).mappings().first()
        return None if found is None else {str(name): "" if cell is None else str(cell) for name, cell in found.items()}

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


# -- somebody else's service -----------------------------------------------------------------------------------------


class HTTPInventory:
    """A service that is asked by POST: JSON of ``Applicant`` in, a decision out.

    =======  ========================================================================================================
    status   content
    =======  ========================================================================================================
    200      ``{"grant": true}``, with ``"profile"`` if it is another; or ``{"grant": false, "text": "why"}``
    202      not decided yet: ``{"retry_after": seconds}``; it is asked again when the entity polls
    =======  ========================================================================================================

    Anything else, and nothing in time, is systemUnavail for the entity. Redirections are not followed.

    Args:
        url: of the service.
        timeout_seconds: for its answer.
        headers: sent along, such as Authorization.

    Raises:
        ValueError: the URL is not one of HTTP or HTTPS.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 10.0, headers: Mapping[str, str] | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError("the inventory's URL is not one of HTTP")
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._opener = urllib.request.build_opener(_NoRedirect)

    def decide(self, request: CertificateRequest) -> Grant | Pending:
        """As ``Inventory``."""
        question = json.dumps(asdict(Applicant.of(request))).encode()
        try:
            status, told = give_way(self._ask, question)
        except (OSError, ValueError) as error:
            logger.error("the inventory's service failed: %s", error)
            raise Rejected(FailureInfo.SYSTEM_UNAVAIL, "the inventory cannot be asked; try again later") from None
        if status == 202:
            wait = told.get("retry_after")
            return Pending(check_after_seconds=min(max(wait, 1), 86400) if type(wait) is int else 60)
        text, profile = told.get("text"), told.get("profile")
        if told.get("grant") is not True:
            raise Rejected(FailureInfo.NOT_AUTHORIZED, text[:200] if isinstance(text, str) and text else "refused")
        return Grant(profile=profile if isinstance(profile, str) and profile else None)

    def _ask(self, question: bytes) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(self._url, data=question, headers=self._headers, method="POST")
        with self._opener.open(request, timeout=self._timeout_seconds) as answer:
            told = json.loads(answer.read(_LONGEST_ANSWER))
            if answer.status not in {200, 202} or not isinstance(told, dict):
                raise ValueError(f"an answer that is none of a decision (HTTP {answer.status})")
            return answer.status, told


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """None: what answers with a redirection has failed."""
