"""A ``ClientContext`` made of options, in the order of ``openssl cmp``, with its checks and its warnings.

Source: openssl-cmp(1), OSSL_CMP_CTX_new(3).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.asn1 import BitString

from opensslcmp.asn1 import NULL_DN, InfoTypeAndValue, admit, der, encode_info, oids, tlv
from opensslcmp.asn1.certificate import Certificate, TBSCertificate, Validity
from opensslcmp.asn1.common import AlgorithmIdentifier, SubjectPublicKeyInfo, unwrap, wrap
from opensslcmp.cli.cmp.arguments import Arguments, items
from opensslcmp.cli.cmp.log import Log
from opensslcmp.cli.cmp.sources import Sources
from opensslcmp.cli.cmp.transfer import Transfer
from opensslcmp.cli.exits import InputError, UsageError
from opensslcmp.context.certificates import facts
from opensslcmp.context.client import ClientContext, PopoMethod, can_have_key_generated
from opensslcmp.context.names import is_object, object_identifier
from opensslcmp.context.verification import FLAGS, VerifyParameters
from opensslcmp.enums import RevocationReason
from opensslcmp.errors import OpenSSLError, Unsupported
from opensslcmp.transport import TLS, HTTPTransport

__all__ = ["FOREVER_SECONDS", "Setup"]

FOREVER_SECONDS = 2_000_000.0
"""What "no limit" comes to: 23 days, the longest that poll(2) waits."""

_CERTIFICATES = frozenset(("ir", "cr", "kur", "p10cr"))
_CRMF = frozenset(("ir", "cr", "kur"))
_WITH_FILES = ("rspin", "reqout_only")


class Setup:
    """Makes what a transaction needs, step by step.

    Args:
        arguments: the options.
        log: told of warnings.

    Raises:
        UsageError: options are missing, wrong or contradict each other.
        InputError: what they name cannot be used.
    """

    def __init__(self, arguments: Arguments, log: Log) -> None:
        self._arguments = arguments
        self._log = log
        self._sources = Sources(arguments, log)
        self.command = self._checked()
        self._parameters = self._verification()
        self._forever = float(arguments.number("total_timeout")) or FOREVER_SECONDS

    @property
    def sources(self) -> Sources:
        """What the options name."""
        return self._sources

    def context(self) -> tuple[ClientContext, Transfer]:
        """The context, ready to run.

        Raises:
            UsageError, InputError: as above.
            Unsupported: the linked OpenSSL lacks what was asked for.
        """
        given, log = self._arguments, self._log
        self._check_address()
        context = ClientContext(property_query=given.text("propquery"))
        context.log_verbosity = min(log.verbosity, 8)
        context.ignore_key_usage = given.has("ignore_keyusage")
        context.permit_anchor_in_extra_certs = given.has("ta_in_ip_extracerts")
        if given.has("no_cache_extracerts"):
            try:
                context.cache_extra_certs = False
            except Unsupported:
                log.warn("-no_cache_extracerts has no effect with this OpenSSL; nothing outlives a run anyway")
        self._server_authentication(context)
        transport = self._transport()
        self._protection(context)
        reference = self._request(context)
        self._addresses(context, reference)
        for info in self._general_info():
            context.add_general_info(info)
        transfer = Transfer(given, transport, float(given.number("msg_timeout")) or self._forever, self._forever)
        transfer.context = context
        context.transfer = transfer
        return context, transfer

    # -- checks ---------------------------------------------------------------------------------------------------

    def _checked(self) -> str:
        given = self._arguments
        command = given.text("cmd")
        if command is None:
            raise UsageError("no cmp command to execute")
        if command not in _CERTIFICATES | {"rr", "genm"}:
            raise UsageError(f"unknown cmp command '{command}'")
        if not -1 <= given.number("popo", 1) <= 2:
            raise UsageError("invalid popo spec. Valid values are -1 .. 2")
        if not -1 <= given.number("revreason", -1) <= 10 or given.number("revreason", -1) == 7:
            raise UsageError("invalid revreason. Valid values are -1 .. 6, 8 .. 10")
        if given.number("keep_alive", 1) > 2:
            raise UsageError("-keep_alive argument must be 0, 1, or 2")
        total, one = given.number("total_timeout"), given.number("msg_timeout")
        if 0 < total < one:
            raise UsageError(f"-total_timeout argument = {total} must not be < {one} (-msg_timeout)")
        if given.has("engine") or (given.text("keyform") or "").upper() == "ENGINE":
            raise UsageError("engines are gone from OpenSSL; use -provider and a URI such as pkcs11:")
        if given.has("provparam"):
            raise UsageError("-provparam is not supported; set the parameter in the configuration file of OpenSSL")
        return command

    def _verification(self) -> VerifyParameters | None:
        given = self._arguments
        flags = tuple(name for name in FLAGS if given.has(name))
        named = ("purpose", "verify_name", "verify_hostname", "verify_email", "verify_ip")
        numbers = ("verify_depth", "auth_level", "attime")
        if not (flags or given.several("policy") or any(map(given.has, named + numbers))):
            return None
        depth, level, at = (given.number(name) if given.has(name) else None for name in numbers)
        try:
            return VerifyParameters(
                flags=flags,
                policies=given.several("policy"),
                purpose=given.text("purpose"),
                name=given.text("verify_name"),
                depth=depth,
                auth_level=level,
                at=at,
                host=given.text("verify_hostname"),
                email=given.text("verify_email"),
                ip=given.text("verify_ip"),
            )
        except ValueError as error:
            raise UsageError(str(error)) from None

    @property
    def _for_messages(self) -> VerifyParameters | None:
        return None if self._parameters is None else self._parameters.for_messages()

    # -- the server -------------------------------------------------------------------------------------------------

    def _check_address(self) -> None:
        given = self._arguments
        if given.has("server"):
            if given.has("reqout_only"):
                self._log.warn("-server option is ignored since -reqout_only option is given")
        elif not any(map(given.has, _WITH_FILES)):
            raise UsageError("missing -server or -rspin option")
        infotype = given.text("infotype")
        if self.command == "genm" and infotype is None:
            self._log.warn("no -infotype option given for genm")
        if infotype is not None and self.command != "genm":
            self._log.warn("-infotype option is ignored for commands other than 'genm'")

    def _transport(self) -> HTTPTransport | None:
        """HTTP to the server; None where there is none to ask."""
        given = self._arguments
        server = given.text("server")
        if server is None or given.has("reqout_only"):
            return None
        parts = urlsplit(server if "://" in server else f"http://{server}")
        secure = parts.scheme.lower() == "https"
        if secure and not given.has("tls_used"):
            self._log.warn("assuming -tls_used since -server URL indicates HTTPS")
        path = given.text("path")
        if path is None:
            path = parts.path + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        tls = None
        if secure or given.has("tls_used"):
            if not secure and ":" not in host.rpartition("]")[2]:
                host += ":80"  # only the scheme makes it 443
            tls = self._tls()
        url = f"http{'s' if tls else ''}://{host}/{path.lstrip('/')}"
        timeout = float(given.number("msg_timeout")) or self._forever
        try:
            transport = HTTPTransport(
                url,
                connect_timeout_seconds=timeout,
                message_timeout_seconds=timeout,
                proxy=self._proxy(),
                no_proxy=given.text("no_proxy"),
                tls=tls,
                keep_alive=given.number("keep_alive", 1) > 0,
                require_keep_alive=given.number("keep_alive", 1) == 2 and self.command in _CERTIFICATES,
            )
        except ValueError as error:
            raise UsageError(f"-server: {error}") from None
        self._log.info(f"will contact {transport.url}")
        return transport

    def _proxy(self) -> str | None:
        text = self._arguments.text("proxy")
        if text is None:
            return None
        parts = urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme.lower() == "https" and parts.port is None:
            return f"http://{parts.netloc}:443"
        return f"http://{parts.netloc}"

    def _tls(self) -> TLS:
        given, sources, log = self._arguments, self._sources, self._log
        trusted = sources.certificates("tls_trusted")
        own = sources.certificate("tls_cert", "tls_keypass")
        key = sources.key("tls_key", "tls_keypass")
        if not given.has("tls_trusted"):
            log.warn("-tls_used given without -tls_trusted; will not authenticate the TLS server")
        if key is None:
            log.warn("-tls_used given without -tls_key; cannot authenticate to the TLS server")
        if bool(own) != (key is not None):
            raise UsageError("must give both -tls_cert and -tls_key options or neither")
        untrusted = sources.certificates("untrusted") if own else []
        return TLS(
            trusted=trusted,
            certificate=own[0] if own else None,
            key=key,
            extra_certificates=_chain(own, untrusted) + sources.certificates("tls_extra"),
            host=given.text("tls_host"),
            parameters=self._for_messages if trusted else None,
            verify=bool(trusted),
        )

    def _server_authentication(self, context: ClientContext) -> None:
        given, sources, log = self._arguments, self._sources, self._log
        context.unprotected_errors = given.has("unprotected_errors")
        if given.has("srvcert"):
            for name in ("trusted", "recipient"):
                if given.has(name):
                    log.warn(f"-{name} option is ignored since -srvcert option is present")
            context.pinned_server = sources.certificate("srvcert")[0]
        elif given.has("trusted"):
            context.trust(sources.certificates("trusted"), parameters=self._for_messages)
        if given.has("untrusted"):
            context.untrusted = sources.certificates("untrusted")
        if given.has("out_trusted"):
            parameters = None if self._parameters is None else self._parameters.for_new_certificate()
            context.require_trusted_certificate(sources.certificates("out_trusted"), parameters)

    # -- ourselves ----------------------------------------------------------------------------------------------------

    def _protection(self, context: ClientContext) -> None:
        given, sources, log = self._arguments, self._sources, self._log
        if not given.has("unprotected_requests") and not (given.has("secret") or given.has("key")):
            raise UsageError("must give -key or -secret unless -unprotected_requests is used")
        context.unprotected_requests = given.has("unprotected_requests")
        if not any(map(given.has, ("ref", "cert", "subject"))):
            raise UsageError("must give -ref if no -cert and no -subject given")
        if not given.has("secret") and given.has("cert") != given.has("key"):
            raise UsageError("must give both -cert and -key options or neither")
        if given.has("secret"):
            if given.has("cert") and given.has("key"):
                log.warn("-cert and -key not used for protection since -secret is given")
            context.secret = sources.password("secret")
        elif not any(map(given.has, ("trusted", "srvcert"))):
            log.warn("will not authenticate server due to missing -secret, -trusted, or -srvcert")
        reference = given.text("ref")
        if reference is not None:
            context.reference = reference.encode()
        key = sources.key("key", "keypass")
        if key is not None:
            context.set_key(key)
        own = sources.certificate("cert", "keypass")
        if own:
            context.certificate = own[0]
            anchors = sources.certificates("own_trusted") if given.has("own_trusted") else None
            try:
                with log.of_library():
                    context.build_chain(anchors, own[1:], self._for_messages)
            except OpenSSLError as error:
                raise InputError(f"-cert: its chain cannot be built: {error}") from None
        if given.has("extracerts"):
            context.set_extra_certs(sources.certificates("extracerts"))
        self._algorithms(context)

    def _algorithms(self, context: ClientContext) -> None:
        digest, mac = self._arguments.text("digest"), self._arguments.text("mac")
        try:
            if digest is not None:
                context.digest = context.owf = digest
        except (ValueError, OpenSSLError):
            raise UsageError(f"digest algorithm name not recognized: '{digest}'") from None
        try:
            if mac is not None:
                context.mac = mac
        except (ValueError, OpenSSLError):
            raise UsageError(f"MAC algorithm name not recognized: '{mac}'") from None

    # -- the request ---------------------------------------------------------------------------------------------------

    def _request(self, context: ClientContext) -> bytes | None:
        """What is asked for; returns the certificate that it is about."""
        given, sources, log = self._arguments, self._sources, self._log
        command = self.command
        if command in _CERTIFICATES and not given.has("certout") and not given.has("reqout_only"):
            raise UsageError("-certout not given, nowhere to save newly enrolled certificate")
        subject = sources.name("subject")
        if subject is not None:
            if command not in _CRMF and (given.has("ref") or given.has("cert")):
                log.warn("-subject option is ignored for commands other than 'ir', 'cr', and 'kur'")
            context.subject = subject
        elif command in _CERTIFICATES and not any(map(given.has, ("csr", "oldcert", "cert"))):
            log.warn("no -subject given; no -csr or -oldcert or -cert available for fallback")
        issuer = sources.name("issuer")
        if issuer is not None:
            context.issuer = issuer
        csr = sources.csr("csr")
        if csr is not None:
            context.csr = csr
        reference = self._reference(context, subject, issuer)
        if command in _CRMF:
            self._new_key(context, reference)
            self._template(context, csr)
            context.popo = PopoMethod(given.number("popo", 1))
            if self.central_key:
                self._check_central_key()
                context.popo = PopoMethod.NONE
        elif command == "p10cr" and given.has("newkey"):
            log.warn("-newkey option is ignored for 'p10cr', 'rr', and 'genm' commands")
        context.implicit_confirm = given.has("implicit_confirm")
        context.disable_confirm = given.has("disable_confirm")
        return reference

    def _reference(self, context: ClientContext, subject: bytes | None, issuer: bytes | None) -> bytes | None:
        """The certificate that the request is about, which gives defaults."""
        given, command = self._arguments, self.command
        old = self._sources.certificate("oldcert", "keypass")
        if command == "kur" and not any(map(given.has, ("oldcert", "cert", "csr"))):
            raise UsageError("missing -oldcert for certificate to be updated and no -csr given")
        if command == "p10cr" and not given.has("csr"):
            raise UsageError("missing PKCS#10 CSR for p10cr")
        if old:
            context.old_certificate = old[0]
        if command != "rr":
            return old[0] if old else None
        serial = given.text("serial")
        if not old and serial is not None and issuer is not None:
            self._by_serial(context, issuer, _serial_number(serial), subject)
        elif not old and not given.has("csr"):
            raise UsageError("missing -oldcert or -issuer and -serial for certificate to be revoked and no -csr given")
        if old and (serial is not None or issuer is not None):
            self._log.warn("given -issuer and -serial are ignored since -oldcert is present")
        reason = given.number("revreason", -1)
        context.revocation_reason = None if reason < 0 else RevocationReason(reason)
        return old[0] if old else None

    @staticmethod
    def _by_serial(context: ClientContext, issuer: bytes, serial: int, subject: bytes | None) -> None:
        """Name the certificate to revoke by issuer and number."""
        try:
            context.serial_number = wrap(2, serial.to_bytes(serial.bit_length() // 8 + 1, "big", signed=True))
        except Unsupported:
            # Before 3.2 OpenSSL takes both from a certificate, of which it looks at nothing else.
            context.old_certificate = _placeholder(issuer, serial, subject or NULL_DN)

    def _new_key(self, context: ClientContext, reference: bytes | None) -> None:
        given, sources, log = self._arguments, self._sources, self._log
        if self.central_key:
            if given.has("newkey"):
                log.warn("-newkey is ignored since -centralkeygen is given")
            return
        if given.has("newkey"):
            try:
                context.set_new_key(sources.key("newkey", "newkeypass"))
            except InputError:
                public = sources.public_key("newkey")
                if public is None:
                    raise
                context.set_new_key(public, private=False)
            return
        if given.has("key") or given.has("csr") or reference is not None or given.has("cert"):
            return
        if given.has("reqin"):
            public = _public_key_of(given)
            if public is not None:
                context.set_new_key(public, private=False)
                return
        raise UsageError(
            "missing -newkey (or -key) to be certified, and no -csr, -oldcert, -cert or -reqin that could provide "
            "a public key"
        )

    @property
    def central_key(self) -> bool:
        """Whether the CA is to make the key; since OpenSSL 3.5, no proof of possession means that."""
        given = self._arguments
        return given.has("centralkeygen") or (
            given.number("popo", 1) == PopoMethod.NONE and can_have_key_generated() and self.command in _CRMF
        )

    def _check_central_key(self) -> None:
        given = self._arguments
        if not can_have_key_generated():
            raise UsageError("-centralkeygen needs OpenSSL 3.5")
        if not given.has("newkeyout"):
            raise UsageError("-newkeyout not given, nowhere to save centrally generated key")
        if given.has("popo") and given.number("popo") != PopoMethod.NONE:
            raise UsageError("-popo is -1 when the CA makes the key")

    def _template(self, context: ClientContext, csr: bytes | None) -> None:
        """Validity, names, policies and other extensions to ask for."""
        given, log = self._arguments, self._log
        if given.has("days"):
            context.validity_days = given.number("days")
        if given.has("policies") and given.has("policy_oids"):
            raise UsageError("cannot have policies both via -policies and via -policy_oids")
        sections = [section for name in ("reqexts", "policies") if (section := given.text(name)) is not None]
        if sections:
            context.set_request_extensions(self._extensions(sections, csr))
        names = items(given.text("sans"))
        if names:
            if sections and context.request_extensions_have_subject_alt_name:
                raise UsageError("cannot have Subject Alternative Names both via -reqexts and via -sans")
            if given.has("san_nodefault"):
                log.warn("-san_nodefault has no effect when -sans is used")
            context.subject_alt_names_critical = "critical" in names
        context.inherit_subject_alt_names = not given.has("san_nodefault")
        for name in names:
            if name != "critical":
                context.add_subject_alt_name(_general_name(name))
        for policy in items(given.text("policy_oids")):
            if not is_object(policy):
                raise UsageError(f"invalid -policy_oids arg '{policy}'")
            context.add_policy(_policy(object_identifier(policy)))
        context.policies_critical = given.has("policy_oids_critical")

    def _extensions(self, sections: Iterable[str], csr: bytes | None) -> bytes:
        config = self._arguments.config
        found = []
        for section in sections:
            if config is None:
                raise InputError(f"there is no configuration file with a section [{section}]")
            try:
                found.append(unwrap(config.extensions(section, csr)))
            except OpenSSLError as error:
                raise InputError(str(error)) from None
        return wrap(0x30, b"".join(found))

    # -- the header -----------------------------------------------------------------------------------------------------

    def _addresses(self, context: ClientContext, reference: bytes | None) -> None:
        given, sources = self._arguments, self._sources
        recipient = None if given.has("srvcert") else sources.name("recipient")
        if recipient is not None:
            context.recipient = recipient
        elif not any(map(given.has, ("srvcert", "issuer", "cert"))) and reference is None:
            self._log.warn(
                'missing -recipient, -srvcert, -issuer, -oldcert or -cert; recipient will be set to "NULL-DN"'
            )
        sender = sources.name("expect_sender")
        if sender is not None:
            context.expected_sender = sender

    def _general_info(self) -> list[bytes]:
        """What goes into generalInfo, each an InfoTypeAndValue in DER."""
        found = []
        for item in items(self._arguments.text("geninfo")):
            kind, _, typed = item.partition(":")
            if not is_object(kind):
                raise UsageError(f"-geninfo: unknown object '{kind}'")
            form, colon, value = typed.partition(":")
            if form not in {"int", "str"} or not colon:
                raise UsageError(f"missing 'int:' or 'str:' in -geninfo arg {item}")
            found.append(der(InfoTypeAndValue.make(object_identifier(kind), _value(form, value))))
        profile = self._arguments.text("profile")
        if profile is not None:
            found.append(der(encode_info(oids.IT_CERT_PROFILE, [profile])))
        return found


def _value(form: str, text: str) -> bytes:
    if form == "str":
        return wrap(0x0C, text.encode())
    try:
        number = int(text, 10)
    except ValueError:
        raise UsageError(f"-geninfo: not a number: {text}") from None
    return wrap(2, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def _serial_number(text: str) -> int:
    digits = text.replace(":", "")
    try:
        return int(digits, 16 if digits.lower().startswith(("0x", "-0x")) or ":" in text else 10)
    except ValueError:
        raise UsageError(f"-serial: not a number: {text}") from None


def _general_name(text: str) -> bytes:
    """GeneralName of an IP address, e-mail address, URI or DNS name."""
    name: x509.GeneralName
    try:
        name = x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        kind = x509.RFC822Name if "@" in text else x509.UniformResourceIdentifier if ":" in text else x509.DNSName
        try:
            name = kind(text)
        except ValueError as error:
            raise UsageError(f"-sans: {text}: {error}") from None
    return unwrap(x509.SubjectAlternativeName([name]).public_bytes())


def _policy(oid: str) -> bytes:
    return unwrap(x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(oid), None)]).public_bytes())


def _chain(own: list[bytes], untrusted: list[bytes]) -> list[bytes]:
    """What to send after our own certificate in TLS: its issuers, as far as they are there."""
    if not own:
        return []
    chain: list[bytes] = []
    pool = [*own[1:], *untrusted]
    current = facts(own[0])
    while current.issuer != current.subject:
        issuer = next((each for each in pool if each not in chain and facts(each).subject == current.issuer), None)
        if issuer is None:
            break
        chain.append(issuer)
        current = facts(issuer)
    return chain


def _public_key_of(arguments: Arguments) -> bytes | None:
    """The public key that the first message of ``-reqin`` asks a certificate for."""
    from pathlib import Path

    try:
        content = admit(Path(items(arguments.text("reqin"))[0]).read_bytes()).content()
    except OSError as error:
        raise InputError(f"-reqin: {error.strerror}: {error.filename}") from None
    try:
        found: bytes | None = content[0].cert_req.cert_template.public_key_der
    except (AttributeError, TypeError, IndexError):
        return None
    return found


def _placeholder(issuer: bytes, serial: int, subject: bytes) -> bytes:
    """Something of the form of a certificate, with these names and this number."""
    algorithm = AlgorithmIdentifier(algorithm=x509.ObjectIdentifier("1.3.101.112"))
    always = datetime(2000, 1, 1, tzinfo=UTC)
    tbs = TBSCertificate(
        serial_number=serial,
        signature=algorithm,
        issuer=tlv(issuer),
        validity=Validity.between(always, always),
        subject=tlv(subject),
        subject_public_key_info=tlv(
            der(SubjectPublicKeyInfo(algorithm=algorithm, subject_public_key=BitString(bytes(32), 0)))
        ),
    )
    return der(
        Certificate(tbs_certificate=tlv(der(tbs)), signature_algorithm=algorithm, signature=BitString(bytes(64), 0))
    )
