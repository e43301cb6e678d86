"""``opensslcmp enroll``, ``update``, ``revoke`` and ``info``: one transaction with a CMP server each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.asn1 import oids
from opensslcmp.cli.exits import InputError, UsageError
from opensslcmp.cli.files import Outputs, pem, read_secret
from opensslcmp.cli.options import ClientOptions, general_names, make_context
from opensslcmp.cli.talk import give, give_json, say
from opensslcmp.client.context import Context
from opensslcmp.client.possession import Proof
from opensslcmp.client.results import Info, Issued, Protection
from opensslcmp.client.session import Session
from opensslcmp.context.keys import KEY_KINDS, PrivateKey
from opensslcmp.enums import RevocationReason
from opensslcmp.errors import OpenSSLError

__all__ = ["RequestOptions", "enroll", "info", "recover", "revoke", "update"]

_REQUEST = "Certificate request"
_FILES = "Files written"


def _option(name: str, help_text: str, panel: str = _REQUEST, metavar: str | None = None) -> Any:
    return typer.Option(f"--{name}", help=help_text, rich_help_panel=panel, metavar=metavar)


_PROOFS: tuple[Proof, ...] = ("raVerified", "signature", "indirect", "challenge", "none")
"""By number; -1 is the last one."""


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """Options of a request for a certificate."""

    newkey: Annotated[
        str | None, _option("newkey", "Key to certify: file, URI, or a kind to generate: ec:P-256, rsa:3072, ed25519")
    ] = None
    newkeypass: Annotated[
        str | None,
        _option(
            "newkeypass",
            "Password of --newkey, and for --newkeyout: env:NAME, file:PATH, fd:NUMBER, stdin",
            metavar="SOURCE",
        ),
    ] = None
    subject: Annotated[
        str | None, _option("subject", "/O=Example/CN=device or CN=device,O=Example", metavar="NAME")
    ] = None
    sans: Annotated[str | None, _option("sans", "Alternative names, with commas: DNS, IP, e-mail, URI; critical")] = (
        None
    )
    san_nodefault: Annotated[
        bool, _option("san_nodefault", "Do not take alternative names from the old certificate")
    ] = False
    policy_oids: Annotated[str | None, _option("policy_oids", "Certificate policies, with commas")] = None
    days: Annotated[int, _option("days", "Validity to ask for; 0: what the CA gives")] = 0
    popo: Annotated[
        int, _option("popo", "Proof of possession: -1 none, 0 raVerified, 1 signature, 2 indirect, 3 challenge")
    ] = 1
    implicit_confirm: Annotated[bool, _option("implicit_confirm", "Ask the server to waive the confirmation")] = False
    disable_confirm: Annotated[bool, _option("disable_confirm", "Do not confirm (breaks RFC 9810)")] = False
    certout: Annotated[Path | None, _option("certout", "The new certificate; else it goes to stdout", _FILES)] = None
    chainout: Annotated[Path | None, _option("chainout", "Its chain; may be the same file as --certout", _FILES)] = None
    centralkeygen: Annotated[
        bool, _option("centralkeygen", "Let the server make the key, of the kind of --newkey if that is given")
    ] = False
    newkeyout: Annotated[Path | None, _option("newkeyout", "The generated key, mode 0600", _FILES)] = None

    @property
    def central(self) -> str | None:
        """What ``generate`` is when the server makes the key."""
        if not self.centralkeygen:
            return None
        return f"central:{self.newkey}" if self.newkey else "central"

    @property
    def more(self) -> dict[str, Any]:
        """What Session.enroll and Session.update both take."""
        return {
            "subject": self.subject,
            "subject_alternative_names": general_names(self.sans)[0] if self.sans else (),
            "policies": [each.strip() for each in self.policy_oids.split(",")] if self.policy_oids else (),
        }


def enroll(
    client: ClientOptions,
    request: RequestOptions,
    *,
    cmd: Annotated[
        str | None, _option("cmd", "ir, cr or p10cr; by default p10cr with --csr, else ir", metavar="ir|cr|p10cr")
    ] = None,
    csr: Annotated[Path | None, _option("csr", "PKCS#10 request to send (p10cr)")] = None,
    issuer: Annotated[str | None, _option("issuer", "Issuer to ask for", metavar="NAME")] = None,
    archive: Annotated[
        Path | None, _option("archive", "Certificate of the escrow that keeps the key, sealed, for 'recover'")
    ] = None,
) -> None:
    """Get a certificate.

    The certificate goes to --certout or stdout once it is confirmed; a generated key is on the disk before the request
    leaves, and gets its name when all went well.
    """
    if cmd not in {None, "ir", "cr", "p10cr"}:
        raise UsageError("--cmd is ir, cr or p10cr")
    if (cmd == "p10cr" or cmd is None) and csr is not None:
        if archive is not None:
            raise UsageError("--archive needs the private key, which a --csr does not have")
        if request.newkey or request.subject or request.sans:
            raise UsageError("with --csr the key, subject and names are those of the request in it")
        content = _read(csr)
        _issue(client, request, lambda session, _: session.enroll_csr(content, profile=client.profile))
        return
    if csr is not None or cmd == "p10cr":
        raise UsageError("--csr is for p10cr, and p10cr needs it")
    if request.newkey is None and client.key is None and not request.centralkeygen:
        raise UsageError("--newkey is missing: a file, or a kind to generate, such as ec:P-256")
    kind: Literal["ir", "cr"] = "cr" if cmd == "cr" else "ir"
    sealed_to = None if archive is None else _read(archive)

    def run(session: Session, key: PrivateKey | None) -> Issued:
        issued: Issued = session.enroll(
            key=None if request.centralkeygen else session.context.own_key if key is None else key,
            generate=request.central,
            kind=kind,
            issuer=issuer,
            archive=False if sealed_to is None else sealed_to,
            profile=client.profile,
            **request.more,
        )
        return issued

    _issue(client, request, run)


def update(
    client: ClientOptions,
    request: RequestOptions,
    *,
    oldcert: Annotated[str | None, _option("oldcert", "Certificate to renew; by default that of --cert")] = None,
) -> None:
    """Renew a certificate, with a new key.

    The request is signed with the certificate that is renewed. The new files may replace the old ones: they are
    exchanged when all went well.
    """
    if request.newkey is None and not request.centralkeygen:
        raise UsageError("--newkey is missing: a file, or a kind to generate, such as ec:P-256")

    def run(session: Session, key: PrivateKey | None) -> Issued:
        issued: Issued = session.update(oldcert, key, generate=request.central, profile=client.profile, **request.more)
        return issued

    _issue(
        client,
        request,
        run,
        default_sans=not request.san_nodefault,
    )


def _issue(
    client: ClientOptions,
    request: RequestOptions,
    run: Callable[[Session, PrivateKey | None], Issued],
    *,
    default_sans: bool = True,
) -> None:
    if not -1 <= request.popo < len(_PROOFS) - 1:
        raise UsageError("--popo is -1, 0, 1, 2 or 3")
    password = None
    if request.centralkeygen:
        if request.newkeyout is None:
            raise UsageError("--newkeyout is missing: the key that the server makes would be lost")
        password = read_secret(request.newkeypass, "--newkeypass") if request.newkeypass else None
    context = make_context(
        client,
        implicit_confirm=request.implicit_confirm,
        disable_confirm=request.disable_confirm,
        popo=_PROOFS[request.popo],
        validity_days=request.days,
        default_sans=default_sans,
        sans_critical=bool(request.sans) and general_names(request.sans or "")[1],
    )
    with Outputs() as outputs:
        outputs.reserve(request.certout, request.chainout, request.newkeyout, *_common_places(client))
        key = None if request.centralkeygen else _new_key(request, outputs)
        with _session(context) as session:
            issued = run(session, key)
        if request.centralkeygen and request.newkeyout is not None and issued.key is not None:
            outputs.write(request.newkeyout, issued.key.to_pem(password), secret=True)
        _write_issued(issued, client, request, outputs)
    if client.as_json:
        give_json(_told(issued) | {"files": _files(client, request)})
        return
    name = issued.certificate.subject.rfc4514_string()
    text = f": {'; '.join(issued.status_text)}" if issued.status_text else ""
    say(f"{issued.status.text}{text}; certificate of {name}, serial {issued.certificate.serial_number:x}")
    if request.certout is None:
        give(pem([issued.certificate]))


def _new_key(request: RequestOptions, outputs: Outputs) -> PrivateKey | None:
    password = read_secret(request.newkeypass, "--newkeypass") if request.newkeypass else None
    if request.newkey is None:
        return None
    if request.newkey.partition(":")[0].lower() in KEY_KINDS and not Path(request.newkey).exists():
        if request.newkeyout is None:
            raise UsageError("--newkeyout is missing: the generated key would be lost")
        key = PrivateKey.generate(request.newkey)
        outputs.write(request.newkeyout, key.to_pem(password), secret=True)
        return key
    if request.newkeyout is not None and Path(request.newkey).exists():
        raise UsageError("--newkeyout is for a generated key, such as --newkey ec:P-256")
    if request.newkeyout is not None and ":" not in request.newkey:
        kinds = ", ".join(kind for kind in KEY_KINDS if not kind.startswith("slh-dsa"))
        raise UsageError(f"--newkey: neither a file nor a kind of key: {request.newkey}; there are {kinds}")
    try:
        return PrivateKey.load(request.newkey, password)
    except OSError as error:
        raise InputError(f"--newkey: {error.strerror}: {request.newkey}") from None
    except OpenSSLError as error:
        raise InputError(f"--newkey: {request.newkey}: {error} (--newkeypass)") from None


def _write_issued(issued: Issued, client: ClientOptions, request: RequestOptions, outputs: Outputs) -> None:
    same = request.certout is not None and request.certout == request.chainout
    if request.certout is not None:
        outputs.write(request.certout, pem([issued.certificate, *(issued.chain if same else ())]))
    if request.chainout is not None and not same:
        outputs.write(request.chainout, pem(issued.chain))
    if client.cacertsout is not None:
        outputs.write(client.cacertsout, pem(issued.ca_certificates))
    _write_common(client, outputs, issued.extra_certificates, issued.protection)


def _common_places(client: ClientOptions) -> tuple[Path | None, ...]:
    return client.cacertsout, client.extracertsout, client.srvcertout


def _write_common(
    client: ClientOptions, outputs: Outputs, extra: Iterable[x509.Certificate], protection: Protection
) -> None:
    if client.extracertsout is not None:
        outputs.write(client.extracertsout, pem(extra))
    if client.srvcertout is not None and protection.signer is not None:
        outputs.write(client.srvcertout, pem([protection.signer]))


def _files(client: ClientOptions, request: RequestOptions) -> dict[str, str]:
    places = {
        name: getattr(options, name)
        for options, names in (
            (request, ("certout", "chainout", "newkeyout")),
            (client, ("cacertsout", "extracertsout", "srvcertout")),
        )
        for name in names
    }
    return {name: str(place) for name, place in places.items() if place is not None}


def _told(issued: Issued) -> dict[str, Any]:
    certificate = issued.certificate
    return {
        "status": issued.status.text,
        "status_text": list(issued.status_text),
        "failures": [failure.text for failure in issued.failures],
        "transaction_id": issued.transaction_id.hex(),
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial_number": f"{certificate.serial_number:x}",
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "certificate": pem([certificate]).decode(),
        "chain": [pem([each]).decode() for each in issued.chain],
        "ca_certificates": [pem([each]).decode() for each in issued.ca_certificates],
        "implicitly_confirmed": issued.implicitly_confirmed,
        "protection": _protection(issued.protection),
    }


def _protection(protection: Protection) -> dict[str, Any]:
    return {
        "kind": protection.kind.name.lower(),
        "algorithm": protection.algorithm,
        "reference": None if protection.reference is None else protection.reference.decode("utf-8", "replace"),
        "signer": None if protection.signer is None else protection.signer.subject.rfc4514_string(),
    }


def revoke(
    client: ClientOptions,
    *,
    oldcert: Annotated[str | None, _option("oldcert", "Certificate to revoke; by default that of --cert")] = None,
    issuer: Annotated[
        str | None, _option("issuer", "Its issuer, with --serial instead of --oldcert", metavar="NAME")
    ] = None,
    serial: Annotated[str | None, _option("serial", "Its serial number, decimal or 0x...")] = None,
    revreason: Annotated[str | None, _option("revreason", "Reason: 0 to 10 or a name such as keyCompromise")] = None,
) -> None:
    """Revoke a certificate."""
    if (issuer is None) != (serial is None):
        raise UsageError("--issuer and --serial are needed together")
    if oldcert is not None and serial is not None:
        raise UsageError("--oldcert excludes --issuer and --serial")
    number = None
    if serial is not None:
        try:
            number = int(serial, 0)
        except ValueError:
            raise UsageError("--serial is a number, decimal or 0x...") from None
    reason = None if revreason is None else _reason(revreason)
    context = make_context(client)
    with Outputs() as outputs:
        outputs.reserve(*_common_places(client))
        with _session(context) as session:
            revoked = session.revoke(oldcert, issuer=issuer, serial_number=number, reason=reason)
        _write_common(client, outputs, revoked.extra_certificates, revoked.protection)
    if client.as_json:
        give_json(
            {
                "status": revoked.status.text,
                "status_text": list(revoked.status_text),
                "failures": [failure.text for failure in revoked.failures],
                "transaction_id": revoked.transaction_id.hex(),
                "protection": _protection(revoked.protection),
            }
        )
    else:
        text = f": {'; '.join(revoked.status_text)}" if revoked.status_text else ""
        say(f"revoked ({revoked.status.text}{text})")


def recover(
    client: ClientOptions,
    *,
    out: Annotated[Path, _option("out", "Directory for the keys, each as SERIAL.key and SERIAL.pem", _FILES)],
    oldcert: Annotated[
        str | None, _option("oldcert", "Certificate whose key is wanted; by default all that are ours")
    ] = None,
    subject: Annotated[str | None, _option("subject", "Keys of this subject only", metavar="NAME")] = None,
    newkeypass: Annotated[
        str | None,
        _option("newkeypass", "Password for the keys: env:NAME, file:PATH, fd:NUMBER, stdin", metavar="SOURCE"),
    ] = None,
) -> None:
    """Get archived private keys back.

    They go to --out, mode 0600, each with its certificate; all of them or, when something fails, none.
    """
    password = read_secret(newkeypass, "--newkeypass") if newkeypass else None
    context = make_context(client)
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out: {error.strerror}: {out}") from None
    with Outputs() as outputs:
        with _session(context) as session:
            found = session.recover_keys(oldcert, subject=subject)
        for each in found:
            stem = f"{each.certificate.serial_number:x}"
            outputs.reserve(out / f"{stem}.key", out / f"{stem}.pem")
            outputs.write(out / f"{stem}.key", each.key.to_pem(password), secret=True)
            outputs.write(out / f"{stem}.pem", pem([each.certificate]))
    if client.as_json:
        told = [
            {
                "subject": each.certificate.subject.rfc4514_string(),
                "serial_number": f"{each.certificate.serial_number:x}",
                "not_after": each.certificate.not_valid_after_utc.isoformat(),
                "key": str(out / f"{each.certificate.serial_number:x}.key"),
                "certificate": str(out / f"{each.certificate.serial_number:x}.pem"),
            }
            for each in found
        ]
        give_json({"keys": told})
        return
    for each in found:
        name = each.certificate.subject.rfc4514_string()
        say(f"recovered the key of {name}, serial {each.certificate.serial_number:x}")


def _reason(text: str) -> RevocationReason | None:
    if text == "-1":
        return None
    for reason in RevocationReason:
        if text.lower() in {str(int(reason)), reason.text.lower(), reason.name.lower()}:
            return reason
    names = ", ".join(f"{int(reason)} {reason.text}" for reason in RevocationReason)
    raise UsageError(f"--revreason: no such reason; there are {names}")


def info(
    client: ClientOptions,
    *,
    infotype: Annotated[
        list[str] | None,
        _option("infotype", "caCerts, rootCaCert, certReqTemplate, crlStatusList, currentCRL, ... or a dotted OID"),
    ] = None,
    oldwithold: Annotated[str | None, _option("oldwithold", "Root held, for rootCaCert")] = None,
    newwithnew: Annotated[Path | None, _option("newwithnew", "The new root", _FILES)] = None,
    newwithold: Annotated[Path | None, _option("newwithold", "The new root signed with the old key", _FILES)] = None,
    oldwithnew: Annotated[Path | None, _option("oldwithnew", "The old root signed with the new key", _FILES)] = None,
    oldcrl: Annotated[Path | None, _option("oldcrl", "CRL held, for crlStatusList")] = None,
    crlcert: Annotated[str | None, _option("crlcert", "Certificate whose CRL is wanted, for crlStatusList")] = None,
    crlout: Annotated[Path | None, _option("crlout", "The CRL in PEM", _FILES)] = None,
) -> None:
    """Ask the server for information (genm).

    Each --infotype is asked for in the same message. Many servers, ours too, take exactly one (RFC 9483, 4.3).
    """
    wanted = [_infotype(each) for each in infotype or ()]
    context = make_context(client)
    with Outputs() as outputs:
        outputs.reserve(newwithnew, newwithold, oldwithnew, crlout, *_common_places(client))
        with _session(context) as session:
            match wanted:
                case [oids.IT_CA_CERTS]:
                    certificates = session.ca_certificates()
                    if client.cacertsout is not None:
                        outputs.write(client.cacertsout, pem(certificates))
                    told: Any = {"caCerts": [pem([each]).decode() for each in certificates]}
                    shown = "" if client.cacertsout else pem(certificates).decode()
                case [oids.IT_ROOT_CA_CERT]:
                    found = session.root_ca_update(oldwithold)
                    told, shown = {"rootCaKeyUpdate": None}, ""
                    if found is not None:
                        parts = {
                            "newWithNew": (newwithnew, found.new_with_new),
                            "newWithOld": (newwithold, found.new_with_old),
                            "oldWithNew": (oldwithnew, found.old_with_new),
                        }
                        for place, certificate in parts.values():
                            if place is not None and certificate is not None:
                                outputs.write(place, pem([certificate]))
                        told = {
                            "rootCaKeyUpdate": {
                                name: pem([each]).decode() for name, (_, each) in parts.items() if each is not None
                            }
                        }
                        shown = "" if newwithnew else pem([found.new_with_new]).decode()
                    else:
                        say("there is no newer root")
                case [oids.IT_CERT_REQ_TEMPLATE]:
                    template = session.certificate_request_template(profile=client.profile)
                    told = {"certReqTemplate": None}
                    if template is not None:
                        told = {
                            "certReqTemplate": {
                                "subject": None if template.subject is None else template.subject.rfc4514_string(),
                                "extensions": {
                                    oid: {"critical": critical, "value": value.hex()}
                                    for oid, (critical, value) in template.extensions.items()
                                },
                                "keys": [each if isinstance(each, int) else each.hex() for each in template.keys],
                            }
                        }
                    shown = _lines(told)
                case [oids.IT_CRL_STATUS_LIST]:
                    last = None if oldcrl is None else _read_crl(oldcrl)
                    crl = session.crl_update(last, certificate=crlcert)
                    told, shown = {"crls": []}, ""
                    if crl is not None:
                        text = crl.public_bytes(Encoding.PEM)
                        if crlout is not None:
                            outputs.write(crlout, text)
                        told = {"crls": [text.decode()]}
                        shown = "" if crlout else text.decode()
                    else:
                        say("there is no newer CRL")
                case _:
                    infos = session.request_info(*wanted, profile=client.profile)
                    told = {"info": [_item(each) for each in infos]}
                    shown = "".join(f"{_name(each.name)}: {_value(each)}\n" for each in infos)
                    if not infos:
                        say("the server answered without any value")
    if client.as_json:
        give_json(told)
    else:
        give(shown)


def _infotype(name: str) -> str:
    known = {_name(oids.name_of(value)).lower(): value for key, value in vars(oids).items() if key.startswith("IT_")}
    plain = name.removeprefix("id-it-").lower()
    if plain in known:
        return str(known[plain])
    try:
        return x509.ObjectIdentifier(name).dotted_string
    except ValueError:
        raise UsageError(f"--infotype: {name} is neither a dotted OID nor one of {', '.join(sorted(known))}") from None


def _name(name: str) -> str:
    return name.removeprefix("id-it-")


def _item(each: Info) -> dict[str, Any]:
    return {"oid": each.oid, "name": _name(each.name), "value": None if each.value is None else each.value.hex()}


def _value(each: Info) -> str:
    return "no value" if each.value is None else each.value.hex()


def _lines(told: dict[str, Any]) -> str:
    (content,) = told.values()
    if content is None:
        return "the server leaves the content of requests open\n"
    keys = ", ".join(f"RSA {each} bits" if isinstance(each, int) else each for each in content["keys"])
    extensions = ", ".join(content["extensions"])
    return f"subject: {content['subject'] or ''}\nextensions: {extensions}\nkeys: {keys}\n"


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None


def _read_crl(file: Path) -> x509.CertificateRevocationList:
    content = _read(file)
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_crl(content)
        return x509.load_der_x509_crl(content)
    except ValueError:
        raise InputError(f"{file}: not a CRL") from None


@contextmanager
def _session(context: Context) -> Iterator[Session]:
    """A session whose connections end with it."""
    try:
        with Session(context) as session:
            yield session
    finally:
        context.close()
