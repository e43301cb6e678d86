"""TLS below HTTP: whom we trust, who we are, and what an error says."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from opensslcmp.errors import OpenSSLError, TimedOut, TransportError
from opensslcmp.transport import TLS
from tests.transport.http_peers import ANSWER, MESSAGE, Authority, Peer, Server, answering, pem, reply
from tests.transport.test_http_transport import Client, child, connect, unread

__all__ = ["connect"]

Connect = Callable[..., Client]
ROOT = Authority()
OTHER = Authority("Somebody else")


def test_a_trusted_server_answers_over_one_connection(connect: Connect, tmp_path: Path) -> None:
    with Server(tls=ROOT.server_context(tmp_path, "127.0.0.1")) as server:
        client = connect(server.url, tls=TLS(trusted=ROOT.certificate))
        for _ in range(4):
            assert client.send() == ANSWER
        assert server.connections == 1
        assert client.transport._idle[0].tls_version == "TLSv1.3"


@pytest.mark.parametrize("size", [16_384, 70_000, 900_000])
def test_large_messages_and_answers_pass_through_tls(connect: Connect, tmp_path: Path, size: int) -> None:
    def script(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            peer.send(reply(request.partition(b"\r\n\r\n")[2]))

    with Server(script, tls=ROOT.server_context(tmp_path, "127.0.0.1")) as server:
        client = connect(server.url, tls=TLS(trusted=ROOT.certificate))
        assert client.send(bytes(size)) == client.send(bytes(size)) == bytes(size)


@pytest.mark.parametrize("form", ["object", "pem", "der", "path", "list"])
def test_trust_is_taken_from_what_people_have(connect: Connect, tmp_path: Path, form: str) -> None:
    path = tmp_path / "root.pem"
    path.write_bytes(ROOT.certificate.public_bytes(Encoding.PEM) + OTHER.certificate.public_bytes(Encoding.PEM))
    trusted: Any = {
        "object": ROOT.certificate,
        "pem": path.read_bytes(),
        "der": ROOT.certificate.public_bytes(Encoding.DER),
        "path": path,
        "list": [OTHER.certificate, path],
    }[form]
    with Server(tls=ROOT.server_context(tmp_path, "127.0.0.1")) as server:
        assert connect(server.url, tls=TLS(trusted=trusted)).send() == ANSWER


def test_the_systems_trust_is_used_when_none_is_given(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "system.pem"
    path.write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    with Server(tls=ROOT.server_context(tmp_path, "127.0.0.1")) as server:
        with pytest.raises(TransportError, match=r"certificate was refused"):
            connect(server.url).send()
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert connect(server.url).send() == ANSWER


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (["127.0.0.1"], {"trusted": OTHER.certificate}, "self-signed certificate|unable to get local issuer"),
        (["127.0.0.2"], {}, "IP address mismatch"),
        (["localhost"], {}, "IP address mismatch"),
        (["ca.example"], {"host": "cb.example"}, "[Hh]ostname mismatch"),
        (["*.pki.example"], {"host": "a.b.pki.example"}, "[Hh]ostname mismatch"),
        (["c*.pki.example"], {"host": "ca.pki.example"}, "[Hh]ostname mismatch"),
    ],
)
def test_a_server_that_is_not_who_it_should_be_is_refused_with_the_reason(
    connect: Connect, tmp_path: Path, names: list[str], options: dict[str, Any], words: str
) -> None:
    with Server(tls=ROOT.server_context(tmp_path, *names)) as server:
        client = connect(server.url, tls=TLS(**{"trusted": ROOT.certificate, **options}))
        with pytest.raises(TransportError, match=rf"https://.*TLS: the server's certificate was refused: .*({words})"):
            client.send()
        assert not server.requests


def test_an_expired_certificate_is_refused(connect: Connect, tmp_path: Path) -> None:
    with Server(tls=ROOT.server_context(tmp_path, "127.0.0.1", days=-1)) as server:
        client = connect(server.url, tls=TLS(trusted=ROOT.certificate))
        with pytest.raises(TransportError, match=r"certificate has expired"):
            client.send()


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (["ca.example"], {"host": "ca.example"}),
        (["*.pki.example"], {"host": "ca.pki.example"}),
        (["10.0.0.1"], {"host": "10.0.0.1"}),
        (["anything.example"], {"check_host": False}),
    ],
)
def test_the_name_to_expect_can_be_given(
    connect: Connect, tmp_path: Path, names: list[str], options: dict[str, Any]
) -> None:
    with Server(tls=ROOT.server_context(tmp_path, *names)) as server:
        assert connect(server.url, tls=TLS(trusted=ROOT.certificate, **options)).send() == ANSWER


def test_the_host_is_named_to_the_server_unless_it_is_an_address(connect: Connect, tmp_path: Path) -> None:
    named = []
    context = ROOT.server_context(tmp_path, "localhost", "127.0.0.1")
    context.sni_callback = lambda _socket, name, _context: named.append(name)
    with Server(tls=context) as server:
        connect(server.url, tls=TLS(trusted=ROOT.certificate)).send()
        connect(server.url.replace("127.0.0.1", "localhost"), tls=TLS(trusted=ROOT.certificate)).send()
    assert named == [None, "localhost"]


@pytest.mark.parametrize("form", ["object", "pem", "path", "chain", "encrypted"])
def test_a_client_certificate_is_shown(connect: Connect, tmp_path: Path, form: str) -> None:
    certificate, key = ROOT.issue("device")
    path = tmp_path / "device.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + pem(key))
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame"))
    forms: dict[str, dict[str, Any]] = {
        "object": {"certificate": certificate, "key": key},
        "pem": {"certificate": certificate.public_bytes(Encoding.PEM), "key": pem(key)},
        "path": {"certificate": path, "key": path},
        "chain": {"certificate": path.read_bytes() + OTHER.certificate.public_bytes(Encoding.PEM), "key": key},
        "encrypted": {"certificate": certificate, "key": locked, "password": b"open sesame"},
    }
    own = forms[form]
    seen: list[bytes | None] = []

    def script(peer: Peer) -> None:
        assert isinstance(peer.socket, ssl.SSLSocket)
        seen.append(peer.socket.getpeercert(binary_form=True))
        answering(peer)

    with Server(script, tls=ROOT.server_context(tmp_path, "127.0.0.1", clients=ROOT)) as server:
        tls = TLS(trusted=ROOT.certificate, **own)
        assert "sesame" not in repr(tls)
        assert "PRIVATE" not in repr(tls)
        assert connect(server.url, tls=tls).send() == ANSWER
    assert seen == [certificate.public_bytes(Encoding.DER)]


def test_a_missing_client_certificate_is_an_error_that_says_so(connect: Connect, tmp_path: Path) -> None:
    with (
        Server(tls=ROOT.server_context(tmp_path, "127.0.0.1", clients=ROOT)) as server,
        pytest.raises(
            TransportError,
            match=r"certificate required|alert|reset",  # RST may overtake the alert
        ),
    ):
        connect(server.url, tls=TLS(trusted=ROOT.certificate)).send()


def test_a_key_that_does_not_fit_is_refused_at_once(connect: Connect) -> None:
    certificate, _ = ROOT.issue("device")
    _, key = ROOT.issue("device")
    with pytest.raises(OpenSSLError, match=r"key values mismatch"):
        connect("https://ca.example/", tls=TLS(certificate=certificate, key=key))
    with pytest.raises(ValueError, match=r"together"):
        connect("https://ca.example/", tls=TLS(certificate=certificate))
    with pytest.raises(ValueError, match=r"not an https one"):
        connect("http://ca.example/", tls=TLS())
    with pytest.raises(ValueError, match="neither"):
        connect("https://ca.example/", tls=TLS(host="ca.example\0.evil"))


def test_an_old_tls_version_is_refused(connect: Connect, tmp_path: Path) -> None:
    context = ROOT.server_context(tmp_path, "127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options &= ~ssl.OP_NO_TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        Server(tls=context) as server,
        pytest.raises(TransportError, match=r"TLS handshake: .*(version|alert|protocol)"),
    ):
        connect(server.url, tls=TLS(trusted=ROOT.certificate)).send()


def test_a_server_without_tls_is_an_error(connect: Connect) -> None:
    def script(peer: Peer) -> None:
        peer.socket.recv(10)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Server(script) as server, pytest.raises(TransportError, match=r"TLS handshake: .*wrong version"):
        connect(server.url.replace("http", "https")).send()


def test_a_handshake_that_stops_times_out(connect: Connect) -> None:
    with Server(unread) as server:
        with pytest.raises(TimedOut, match=r"TLS handshake"):
            connect(server.url.replace("http", "https"), connect_timeout_seconds=0.15).send()
        server.gone.set()


def test_an_answer_cut_off_below_tls_is_not_taken_for_whole(connect: Connect, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/pkixcmp\r\n\r\n" + ANSWER)
        if peer.number > 1:
            assert isinstance(peer.socket, ssl.SSLSocket)
            peer.socket = peer.socket.unwrap()

    with Server(script, tls=ROOT.server_context(tmp_path, "127.0.0.1")) as server:
        client = connect(server.url, tls=TLS(trusted=ROOT.certificate))
        with pytest.raises(TransportError):
            client.send()
        assert client.send() == ANSWER


@pytest.mark.parametrize("politely", [False, True])
def test_a_connection_closed_while_idle_is_replaced_under_tls(connect: Connect, tmp_path: Path, politely: bool) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply())
        if peer.number == 1 and politely:
            assert isinstance(peer.socket, ssl.SSLSocket)
            peer.socket.settimeout(0.05)
            peer.socket.unwrap()
        elif peer.number > 1:
            answering(peer)

    with Server(script, tls=ROOT.server_context(tmp_path, "127.0.0.1")) as server:
        client = connect(server.url, tls=TLS(trusted=ROOT.certificate))
        client.send()
        assert server.gone.wait(5)
        assert client.send() == ANSWER
        assert server.connections == 2


def through(backend: int, *, grant: bytes = b"HTTP/1.0 200 Connection established\r\n\r\n") -> Callable[[Peer], None]:
    """A proxy that connects every tunnel to a port of ours."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(grant)
        with socket.create_connection(("127.0.0.1", backend)) as upstream:
            back = threading.Thread(target=copy, args=(upstream, peer.socket))
            back.start()
            copy(peer.socket, upstream)
            back.join()

    return script


def test_https_goes_through_a_tunnel_of_the_proxy(connect: Connect, tmp_path: Path) -> None:
    with (
        Server(tls=ROOT.server_context(tmp_path, "ca.example")) as server,
        Server(through(server.port)) as proxy,
    ):
        client = connect(
            "https://ca.example/x", proxy=f"user:pass@127.0.0.1:{proxy.port}", tls=TLS(trusted=ROOT.certificate)
        )
        open_to_all = connect(
            "https://ca.example/", proxy=f"http://127.0.0.1:{proxy.port}", tls=TLS(trusted=OTHER.certificate)
        )
        with pytest.raises(TransportError, match="refused"):
            open_to_all.send()
        assert b"Proxy-" not in proxy.requests.pop()[1]
        assert client.send() == client.send() == ANSWER
        ((_, head),) = proxy.requests
        assert head.startswith(
            b"CONNECT ca.example:443 HTTP/1.1\r\nHost: ca.example:443\r\nProxy-Authorization: Basic "
        )
        assert server.requests[0][1].startswith(b"POST /x HTTP/1.1\r\nHost: ca.example\r\n")
        assert b"Proxy-" not in server.requests[0][1]
        client.transport._close()


@pytest.mark.parametrize(
    ("grant", "words"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            "proxy 127.0.0.1:.*: HTTP 407 Proxy",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nforged", "bytes follow"),
        (b"nonsense\r\n\r\n", "not an HTTP answer"),
    ],
)
def test_a_proxy_that_grants_no_tunnel_is_an_error(connect: Connect, grant: bytes, words: str) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(grant)
        peer.request()

    with Server(script) as proxy, pytest.raises(TransportError, match=words) as raised:
        connect("https://ca.example/", proxy=f"http://user:pass@127.0.0.1:{proxy.port}").send(MESSAGE)
    assert "pass" not in str(raised.value)


def test_a_forked_child_does_not_end_its_parents_tls(tmp_path: Path) -> None:
    path = tmp_path / "root.pem"
    path.write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    with Server(tls=ROOT.server_context(tmp_path, "127.0.0.1")) as server:
        out = child(
            "import os, sys\n"
            "from opensslcmp.transport import TLS, HTTPTransport\n"
            f"transport = HTTPTransport(sys.argv[1], proxy='', tls=TLS(trusted={str(path)!r}))\n"
            "transport.send(b'parent')\n"
            "if not (pid := os.fork()):\n"
            "    transport.send(b'child'); transport.close(); os._exit(0)\n"
            "os.waitpid(pid, 0)\n"
            "transport.send(b'parent'); print('done')\n",
            server.url,
        )
        assert out == "done\n"
        assert [number for number, _ in server.requests] == [1, 2, 1]
