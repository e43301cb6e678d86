"""The options of the client commands, under the names of ``openssl cmp``, and what is made of them."""

from __future__ import annotations

import dataclasses
import ipaddress
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from cryptography import x509

from opensslcmp.cli.exits import InputError, UsageError
from opensslcmp.cli.files import read_secret, sources
from opensslcmp.client.context import Context
from opensslcmp.client.failover import Retry
from opensslcmp.client.possession import Proof
from opensslcmp.context.certificates import load_certificates
from opensslcmp.context.keys import PrivateKey
from opensslcmp.credentials import Credential, SharedSecret, Signer
from opensslcmp.errors import OpenSSLError
from opensslcmp.transport import TLS, scheme_of

__all__ = ["ClientOptions", "general_names", "make_context", "make_credential", "make_tls", "server_url"]

_SERVER = "Server"
_WE = "Who we are"
_TRUST = "Whom we trust"
_MESSAGE = "Messages"
_TLS = "HTTPS"
_SECRET_HELP = "env:NAME, file:PATH, fd:NUMBER or stdin"


def _option(name: str, help_text: str, panel: str, metavar: str | None = None) -> Any:
    return typer.Option(f"--{name}", help=help_text, rich_help_panel=panel, metavar=metavar)


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """Options that every client command takes."""

    server: Annotated[
        str | None,
        _option(
            "server",
            "\\[http\\[s]://]HOST\\[:PORT]\\[/PATH], cmp\\[s]+tcp://HOST, coap://HOST, file:DIRECTORY",
            _SERVER,
        ),
    ] = None
    path: Annotated[
        str | None, _option("path", "Path on the server, when not in --server; else .well-known/cmp", _SERVER)
    ] = None
    proxy: Annotated[
        str | None, _option("proxy", "HTTP proxy; by default http_proxy or https_proxy of the environment", _SERVER)
    ] = None
    no_proxy: Annotated[str | None, _option("no_proxy", "Hosts that are reached without the proxy", _SERVER)] = None
    connect_timeout: Annotated[float, _option("connect_timeout", "Seconds to connect", _SERVER)] = 10
    msg_timeout: Annotated[float, _option("msg_timeout", "Seconds for each message and its answer", _SERVER)] = 60
    total_timeout: Annotated[float, _option("total_timeout", "Seconds for everything, polling too", _SERVER)] = 3600

    ref: Annotated[str | None, _option("ref", "Reference of the secret", _WE)] = None
    secret: Annotated[
        str | None, _option("secret", f"Secret to protect with: {_SECRET_HELP}", _WE, metavar="SOURCE")
    ] = None
    cert: Annotated[str | None, _option("cert", "Our certificate, and perhaps its chain: file or URI", _WE)] = None
    key: Annotated[str | None, _option("key", "Its private key: file or URI such as pkcs11:...", _WE)] = None
    keypass: Annotated[
        str | None, _option("keypass", f"Password of --cert and --key: {_SECRET_HELP}", _WE, metavar="SOURCE")
    ] = None
    extracerts: Annotated[
        list[str], _option("extracerts", "More certificates to send: files", _WE, metavar="FILES")
    ] = field(default_factory=list)
    unprotected_requests: Annotated[bool, _option("unprotected_requests", "Send without protection", _WE)] = False

    trusted: Annotated[
        list[str], _option("trusted", "Certificates that the server's path may end at: files", _TRUST, metavar="FILES")
    ] = field(default_factory=list)
    untrusted: Annotated[
        list[str], _option("untrusted", "Intermediate certificates: files", _TRUST, metavar="FILES")
    ] = field(default_factory=list)
    srvcert: Annotated[str | None, _option("srvcert", "The only certificate that may sign answers", _TRUST)] = None
    out_trusted: Annotated[
        list[str], _option("out_trusted", "What the new certificate's path must end at: files", _TRUST, metavar="FILES")
    ] = field(default_factory=list)
    unchecked: Annotated[
        bool, _option("unchecked", "Take a certificate whose names, validity or issuer are not as expected", _TRUST)
    ] = False
    expect_sender: Annotated[
        str | None, _option("expect_sender", "The only sender that answers may have", _TRUST, metavar="NAME")
    ] = None
    ignore_keyusage: Annotated[bool, _option("ignore_keyusage", "The signer's keyUsage does not matter", _TRUST)] = (
        False
    )
    unprotected_errors: Annotated[bool, _option("unprotected_errors", "Believe errors without protection", _TRUST)] = (
        False
    )

    recipient: Annotated[str | None, _option("recipient", "Recipient of requests", _MESSAGE, metavar="NAME")] = None
    digest: Annotated[str | None, _option("digest", "Hash of signatures, and owf of MACs", _MESSAGE)] = None
    mac: Annotated[str | None, _option("mac", "MAC, such as hmac-sha256", _MESSAGE)] = None
    profile: Annotated[str | None, _option("profile", "certProfile to ask for", _MESSAGE)] = None
    cacertsout: Annotated[
        Path | None, _option("cacertsout", "Write the CA certificates that come along (caPubs) here", _MESSAGE)
    ] = None
    extracertsout: Annotated[
        Path | None, _option("extracertsout", "Write the extraCerts that come along here", _MESSAGE)
    ] = None
    srvcertout: Annotated[
        Path | None, _option("srvcertout", "Write the certificate that signed the answer here", _MESSAGE)
    ] = None

    tls_used: Annotated[bool, _option("tls_used", "HTTPS; also by https:// in --server", _TLS)] = False
    tls_cert: Annotated[str | None, _option("tls_cert", "Our certificate for TLS", _TLS)] = None
    tls_key: Annotated[str | None, _option("tls_key", "Its private key", _TLS)] = None
    tls_keypass: Annotated[
        str | None, _option("tls_keypass", f"Password of --tls_key: {_SECRET_HELP}", _TLS, metavar="SOURCE")
    ] = None
    tls_trusted: Annotated[
        list[str], _option("tls_trusted", "Trust for TLS; by default the system's", _TLS, metavar="FILES")
    ] = field(default_factory=list)
    tls_host: Annotated[str | None, _option("tls_host", "Name that the TLS certificate must have", _TLS)] = None

    as_json: Annotated[bool, typer.Option("--json", help="Write JSON for machines to stdout.")] = False


def server_url(options: ClientOptions) -> str:
    """The URL that --server, --path and --tls_used name.

    Raises:
        UsageError: they name none.
    """
    if not options.server:
        raise UsageError("--server is missing")
    url = (
        options.server
        if "://" in options.server or scheme_of(options.server) != "http"
        else f"http{'s' * options.tls_used}://{options.server}"
    )
    parts = urlsplit(url)
    if (scheme_of(url) or "http") not in {"http", "https"}:
        if options.tls_used or options.path is not None:
            raise UsageError(f"--tls_used and --path are for HTTP, unlike {parts.scheme}:")
        return url
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"--server: not a server: {options.server}; write http://HOST:PORT or https://HOST:PORT")
    if options.tls_used and parts.scheme == "http":
        raise UsageError("--tls_used contradicts http:// in --server")
    path = parts.path.strip("/")
    if options.path is not None:
        if path:
            raise UsageError("--path and the path in --server exclude each other")
        path = options.path.lstrip("/")
    elif not path:
        path = ".well-known/cmp"
    return f"{parts.scheme}://{parts.netloc}/{path}"


def make_context(
    options: ClientOptions,
    *,
    implicit_confirm: bool = False,
    disable_confirm: bool = False,
    popo: Proof = "signature",
    validity_days: int = 0,
    default_sans: bool = True,
    sans_critical: bool = False,
    credential: Credential | None = None,
    tls: TLS | None = None,
    retry: Retry | None = None,
    max_connections: int = 32,
) -> Context:
    """What the options say, as a Context. ``--server`` may name several, with commas.

    Args:
        credential, tls: instead of what the options say.

    Raises:
        UsageError: something is missing or contradicts something else.
        InputError: a key, certificate or secret does not load.
    """
    urls = _urls(options)
    tls = tls or make_tls(options)
    credential = credential or make_credential(options)
    if not (options.trusted or options.srvcert or isinstance(credential, SharedSecret) or options.unprotected_errors):
        raise UsageError("--trusted or --srvcert is needed to know the server by: a file with its CA's certificate")
    try:
        return Context(
            servers=urls,
            retry=retry,
            max_connections=max_connections,
            credential=credential,
            trusted=sources(options.trusted),
            untrusted=sources(options.untrusted),
            pinned=options.srvcert,
            certificates_trusted=sources(options.out_trusted),
            check_certificate=not options.unchecked,
            expected_sender=options.expect_sender,
            recipient=options.recipient,
            extra_certificates=sources(options.extracerts),
            connect_timeout_seconds=options.connect_timeout,
            message_timeout_seconds=options.msg_timeout,
            total_timeout_seconds=options.total_timeout,
            proxy=options.proxy,
            no_proxy=options.no_proxy,
            tls=tls,
            implicit_confirm=implicit_confirm,
            disable_confirm=disable_confirm,
            popo=popo,
            digest=options.digest,
            owf=options.digest,
            mac=options.mac,
            validity_days=validity_days,
            default_sans=default_sans,
            sans_critical=sans_critical,
            ignore_key_usage=options.ignore_keyusage,
            unprotected_errors=options.unprotected_errors,
            unprotected_requests=options.unprotected_requests,
        )
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        if wrong := _which(options, credential):
            raise InputError(wrong) from None
        raise error from None
    except OpenSSLError as error:
        raise InputError(_which(options, credential) or f"a key or certificate does not load: {error}") from None


def _which(options: ClientOptions, credential: Credential | None) -> str | None:
    """The option whose file does not load, and why."""
    if isinstance(credential, Signer):
        try:
            PrivateKey.load(credential.key, credential.password)
        except OpenSSLError as error:
            asks = " (--keypass)" if "password" in str(error) else ""
            return f"--key: {options.key}: {error}{asks}"
    for option in ("cert", "trusted", "untrusted", "srvcert", "out_trusted", "extracerts", "tls_cert", "tls_trusted"):
        value = getattr(options, option)
        for each in sources([value] if isinstance(value, str) else value or ()):
            try:
                load_certificates(each)
            except (OpenSSLError, ValueError, OSError) as error:
                return f"--{option}: {each}: {error}"
    return None


def _urls(options: ClientOptions) -> list[str]:
    named = sources([options.server or ""]) or [""]
    return [server_url(dataclasses.replace(options, server=each)) for each in named]


def make_tls(options: ClientOptions) -> TLS | None:
    """What the options say about HTTPS; None where no server is reached by it.

    Raises:
        UsageError: there is no server.
        InputError: --tls_keypass names no password.
    """
    if not any(scheme_of(url) in {"https", "cmps+tcp"} for url in _urls(options)):
        return None
    return TLS(
        trusted=sources(options.tls_trusted),
        certificate=options.tls_cert,
        key=options.tls_key,
        password=read_secret(options.tls_keypass, "--tls_keypass") if options.tls_keypass else None,
        host=options.tls_host,
    )


def make_credential(options: ClientOptions) -> Credential | None:
    """Who we are; None where requests go unprotected.

    Raises:
        UsageError: the options do not say it, or only half of it.
        InputError: a secret or password that they name is not there.
    """
    if options.secret is not None:
        # As with openssl cmp, a secret wins over a certificate, and the certificate's name stands in for a reference.
        if options.ref is None:
            raise UsageError("--ref is needed with --secret")
        return SharedSecret(options.ref, read_secret(options.secret, "--secret"))
    if options.cert is not None and options.key is not None:
        password = read_secret(options.keypass, "--keypass") if options.keypass else None
        return Signer(options.cert, options.key, password=password, digest=options.digest)
    if options.cert is not None or options.key is not None:
        raise UsageError("--cert and --key are needed together")
    if options.unprotected_requests:
        return None
    raise UsageError("who are we? Give --ref and --secret, or --cert and --key")


def general_names(text: str) -> tuple[list[x509.GeneralName], bool]:
    """The names of --sans, and whether ``critical`` was among them: IP addresses, e-mail addresses, URIs, DNS names.

    >>> general_names("critical,192.0.2.1,device.example")[1]
    True
    """
    names: list[x509.GeneralName] = []
    parts = sources([text])
    for part in parts:
        if part == "critical":
            continue
        with suppress(ValueError):
            names.append(x509.IPAddress(ipaddress.ip_address(part)))
            continue
        if "@" in part:
            names.append(x509.RFC822Name(part))
        elif ":" in part:
            names.append(x509.UniformResourceIdentifier(part))
        else:
            names.append(x509.DNSName(part))
    return names, "critical" in parts
