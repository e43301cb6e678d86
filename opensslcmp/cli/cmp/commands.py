"""One transaction: what each ``-cmd`` does, and what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.asn1 import CRLStatus, InfoTypeAndValue, decode, decode_info, der, encode_info, oids
from opensslcmp.asn1.common import encode_list
from opensslcmp.cli.cmp.arguments import Arguments
from opensslcmp.cli.cmp.log import Log
from opensslcmp.cli.cmp.results import Results
from opensslcmp.cli.cmp.setup import Setup
from opensslcmp.cli.cmp.transfer import Transfer
from opensslcmp.cli.exits import InputError, UsageError
from opensslcmp.client.operations import checked_root_ca_update
from opensslcmp.context.certificates import facts
from opensslcmp.context.client import ClientContext
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import BodyType, PKIStatus
from opensslcmp.errors import ProtectionError, TimedOut, Unsupported

__all__ = ["Command"]

_LAST_POLL_SECONDS = 5.0
_KINDS = {"ir": BodyType.IR, "cr": BodyType.CR, "kur": BodyType.KUR, "p10cr": BodyType.P10CR}


class Command:
    """Runs what ``-cmd`` says.

    Args:
        arguments: the options.
        log: told of what goes on.
        sleep: waits between polls.
    """

    def __init__(self, arguments: Arguments, log: Log, sleep: Callable[[float], None] = time.sleep) -> None:
        self._arguments = arguments
        self._log = log
        self._sleep = sleep
        self._results = Results(arguments, log)
        self._setup = Setup(arguments, log)
        self._check_information()

    def run(self) -> None:
        """All transactions, ``-repeat`` times.

        Raises:
            CMPError, UsageError, InputError: it failed.
        """
        context, transfer = self._setup.context()
        for left in reversed(range(self._arguments.number("repeat", 1))):
            with self._log.of_library():
                self._transaction(context, transfer)
                if left:
                    context.reset()

    def _transaction(self, context: ClientContext, transfer: Transfer) -> None:
        command = self._setup.command
        transfer.begin()
        if command in _KINDS:
            self._certificate(context, transfer, _KINDS[command])
        elif command == "rr":
            context.revoke()
        else:
            self._information(context)
        if command != "genm" and context.status not in {None, PKIStatus.ACCEPTED}:
            self._log.info(f"received {context.status_line}")
        self._save(context, transfer, command)

    def _certificate(self, context: ClientContext, transfer: Transfer, kind: BodyType) -> None:
        """Get a certificate; the waiting between polls is ours, so that Ctrl-C ends it."""
        while (seconds := context.try_certificate(kind)) is not None:
            # The last poll is a little before the end, as OpenSSL has it: it still needs time for an answer.
            left = transfer.left() - _LAST_POLL_SECONDS
            if left <= 0:
                raise TimedOut("the certificate was not there in the time of -total_timeout")
            self._sleep(min(float(seconds), left))

    def _save(self, context: ClientContext, transfer: Transfer, command: str) -> None:
        results = self._results
        results.certificate_or_none("srvcertout", self._server(context, transfer), "server")
        results.certificates("extracertsout", context.extra_certs, "extra")
        if command not in _KINDS:
            return
        certificate = context.new_certificate
        assert certificate is not None
        given = self._arguments
        if self._setup.central_key:
            made = context.new_key()
            if made is None:
                raise InputError("the CA did not send a key")
            password = self._setup.sources.password("newkeypass")
            results.key("newkeyout", PrivateKey.load(made).to_pem(password))
        chain = context.new_chain
        if given.has("chainout") and given.text("chainout") == given.text("certout"):
            results.certificates("certout", [certificate, *chain], "newly enrolled cert and chain")
        else:
            results.certificates("chainout", chain, "chain")
            results.certificates("certout", [certificate], "newly enrolled")
        if command in {"ir", "cr", "kur", "p10cr"}:
            results.certificates("cacertsout", context.ca_certificates, "CA")

    def _server(self, context: ClientContext, transfer: Transfer) -> bytes | None:
        """The certificate that signed the last answer; None for a MAC."""
        try:
            return context.validated_server
        except Unsupported:
            pass
        answer = transfer.answer
        if answer is None or answer.protection is None or answer.mac is not None:
            return None
        pinned: bytes | None = context.pinned_server
        if pinned is not None:
            return pinned
        candidates = (*answer.extra_certs, *context.untrusted, *self._setup.sources.certificates("trusted"))
        return _signer(candidates, answer.sender, answer.sender_kid)

    # -- genm ---------------------------------------------------------------------------------------------------------

    def _check_information(self) -> None:
        """Whether there is a place for the answer to a genm, before it is asked for."""
        given = self._arguments
        if self._setup.command != "genm":
            return
        name = given.text("infotype")
        if name is not None and oids.number_of(f"id-it-{name}") is None:
            raise UsageError("unknown OID name in -infotype option")
        places = {
            "caCerts": ("cacertsout",),
            "rootCaCert": ("newwithnew",),
            "certReqTemplate": ("template",),
            "crlStatusList": ("crlout",),
        }
        for option in places.get(name or "", ()):
            if not given.has(option):
                self._log.warn(f"missing -{option} option for -infotype {name}: the answer will not be saved")
        if name == "crlStatusList" and not (given.has("oldcrl") or given.has("crlcert")):
            raise UsageError("missing -oldcrl and no -crlcert given for -infotype crlStatusList")
        if name == "rootCaCert" and not (given.has("oldwithold") or given.has("trusted")):
            raise UsageError("missing -oldwithold option for -infotype rootCaCert")

    def _information(self, context: ClientContext) -> None:
        name = self._arguments.text("infotype")
        special = {
            "caCerts": self._ca_certificates,
            "rootCaCert": self._root,
            "certReqTemplate": self._request_template,
            "crlStatusList": self._crl,
        }.get(name or "")
        if special is not None:
            special(context)
            return
        if name is not None:
            self._log.warn(f"no specific support for -infotype {name} available")
            context.add_info_request(der(InfoTypeAndValue.make(_number(name))))
        self._told(context.request_info())

    def _ask(self, context: ClientContext, question: InfoTypeAndValue, answer: str) -> InfoTypeAndValue | None:
        """Ask one question; tells what came, and returns the answer to it."""
        context.add_info_request(der(question))
        return self._told(context.request_info(), answer)

    def _told(self, infos: Iterable[bytes], wanted: str | None = None) -> InfoTypeAndValue | None:
        decoded = [decode(InfoTypeAndValue, info) for info in infos]
        if not decoded:
            self._log.info("genp does not contain any ITAV")
        for number, each in enumerate(decoded, 1):
            self._log.info(f"ITAV #{number} from genp infoType={oids.name_of(each.oid)}")
        found = next((each for each in decoded if each.oid == wanted), None)
        if wanted is not None and found is None:
            raise InputError(f"the answer holds no {oids.name_of(wanted)}")
        return found

    def _ca_certificates(self, context: ClientContext) -> None:
        found = self._ask(context, encode_info(oids.IT_CA_CERTS), oids.IT_CA_CERTS)
        assert found is not None
        self._results.certificates("cacertsout", decode_info(found) or (), "CA")

    def _root(self, context: ClientContext) -> None:
        """Ask for the update of a root certificate; it is believed because the old key signed the new one."""
        sources, results = self._setup.sources, self._results
        given = sources.certificate("oldwithold")
        if not given:
            self._log.warn("no -oldwithold given; the update must fit one of the certificates of -trusted")
        found = self._ask(
            context, encode_info(oids.IT_ROOT_CA_CERT, given[0] if given else None), oids.IT_ROOT_CA_KEY_UPDATE
        )
        assert found is not None
        content = decode_info(found)
        if content is None:
            self._log.info("no root CA certificate update available")
            for option in ("newwithnew", "newwithold", "oldwithnew"):
                results.certificate_or_none(option, None, f"{option} certificate")
            return
        error: ProtectionError | None = None
        for old in given[:1] or sources.certificates("trusted"):
            try:
                update = checked_root_ca_update(old, content)
            except ProtectionError as refused:
                error = refused
                continue
            for option, certificate in (
                ("newwithnew", update.new_with_new),
                ("newwithold", update.new_with_old),
                ("oldwithnew", update.old_with_new),
            ):
                encoded = None if certificate is None else certificate.public_bytes(Encoding.DER)
                results.certificate_or_none(option, encoded, f"{option} CA")
            return
        raise error or InputError("there is no root certificate to check the update with")

    def _request_template(self, context: ClientContext) -> None:
        found = self._ask(context, encode_info(oids.IT_CERT_REQ_TEMPLATE), oids.IT_CERT_REQ_TEMPLATE)
        assert found is not None
        content = decode_info(found)
        if content is None:
            self._log.info("no certificate request template available")
        template = None if content is None else der(content.cert_template)
        keys = None if content is None or content.key_spec is None else encode_list(content.key_spec)
        self._results.data_or_none("template", template, "certTemplate")
        self._results.data_or_none("keyspec", keys, "keySpec")

    def _crl(self, context: ClientContext) -> None:
        """Ask for a newer CRL than ``-oldcrl``, or the one that ``-crlcert`` is under."""
        sources = self._setup.sources
        last = sources.crl("oldcrl")
        about = sources.certificate("crlcert")
        if about:
            issuer = facts(about[0]).issuer
        else:
            assert last is not None
            issuer = last.issuer.public_bytes()
        status = CRLStatus.of_issuer(issuer, None if last is None else last.last_update_utc)
        found = self._ask(context, encode_info(oids.IT_CRL_STATUS_LIST, [status]), oids.IT_CRLS)
        assert found is not None
        crls = decode_info(found)
        if not crls:
            self._log.info("no CRL update available")
        self._results.crl_or_none("crlout", crls[0] if crls else None)


def _number(name: str) -> str:
    number = oids.number_of(f"id-it-{name}")
    assert number is not None
    return number


def _signer(candidates: Iterable[bytes], sender: bytes | None, key_id: bytes | None) -> bytes | None:
    """The certificate with the sender's name, and with its key identifier where both have one."""
    for each in candidates:
        about = facts(each)
        if about.subject == sender and (key_id is None or about.key_id in {None, key_id}):
            return each
    return None
