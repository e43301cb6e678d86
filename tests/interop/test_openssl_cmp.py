"""``opensslcmp cmp`` does what ``openssl cmp`` does: the same requests, files and exit status, option by option.

Each case runs both programs. Where the machine's ``openssl`` is older than an option, ours runs alone and must succeed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from opensslcmp._native import lib
from opensslcmp.asn1 import admit
from opensslcmp.cli.cmp.arguments import items, parse
from opensslcmp.cli.cmp.commands import Command
from opensslcmp.cli.cmp.log import Log
from opensslcmp.cli.cmp.table import OPTIONS, usage
from opensslcmp.cli.cmp.transfer import Transfer
from opensslcmp.errors import TimedOut
from tests import native_peers as peers
from tests.interop.cmp_programs import PEM, PKCS8, PLAIN, Case, World, make_world, program_version

V35 = (3, 5)
NO_ONE = "-server 127.0.0.1:1"
OUT = "-certout cert.pem"

# Before 3.6 a self-signed trust anchor, which is here the server's own certificate, needed a CRL, too.
ANCHORS_NEED_CRL = int(lib.OpenSSL_version_num() < 0x30600000)
# Since 4.0 -no_check_time goes before -attime.
TIME_IS_CHECKED = int(lib.OpenSSL_version_num() < 0x40000000)

SAME = {
    # commands
    "ir by a secret": Case('-config "" -cmd ir {mac} {new}'),
    "ir with two dashes": Case('--config "" --cmd ir {mac} {new}'),
    "ir with equals signs": Case("-config= -cmd=ir {mac} {new} -days=9"),
    "cr by a certificate": Case('-config "" -cmd cr {sig} {new}'),
    "cr for our own key": Case(f'-config "" -cmd cr {{sig}} {OUT}'),
    "kur": Case('-config "" -cmd kur {sig} -newkey new.key -certout cert.pem', fresh=True),
    "kur of an old certificate": Case(
        '-config "" -cmd kur {sig} -newkey new.key -oldcert dev.pem -certout cert.pem -implicit_confirm', fresh=True
    ),
    "p10cr": Case('-config "" -cmd p10cr {mac} -csr new.csr -certout cert.pem'),
    "p10cr without a request": Case('-config "" -cmd p10cr {mac} -certout cert.pem', status=1),
    "ir from a csr": Case('-config "" -cmd ir {mac} -csr new.csr -newkey new.key -certout cert.pem'),
    "rr": Case('-config "" -cmd rr {sig} -oldcert dev.pem', fresh=True),
    "rr with a reason": Case('-config "" -cmd rr {sig} -oldcert dev.pem -revreason 1', fresh=True),
    "rr with a wrong reason": Case('-config "" -cmd rr {sig} -oldcert dev.pem -revreason 7', status=1),
    "rr by a csr": Case('-config "" -cmd rr {mac} -csr new.csr', status=1),
    "rr of nothing": Case('-config "" -cmd rr {sig}', status=1),
    "rr by serial number": Case(
        '-config "" -cmd rr {sig} -issuer "/CN=Interop CA" -serial 0x1234567890', since=V35, status=1
    ),
    "genm": Case('-config "" -cmd genm {mac}'),
    "genm signKeyPairTypes": Case('-config "" -cmd genm {mac} -infotype signKeyPairTypes'),
    "genm of what there is not": Case('-config "" -cmd genm {mac} -infotype nonsense', status=1),
    "genm caCerts": Case('-config "" -cmd genm {mac} -infotype caCerts -cacertsout out.pem', since=V35),
    "genm certReqTemplate": Case(
        '-config "" -cmd genm {mac} -infotype certReqTemplate -template out.der -keyspec out.spec', since=V35
    ),
    "genm rootCaCert": Case(
        '-config "" -cmd genm {mac} -infotype rootCaCert -oldwithold ca.pem -newwithnew nn.pem -newwithold no.pem '
        "-oldwithnew on.pem",
        since=V35,
    ),
    "genm crlStatusList of a CRL": Case(
        '-config "" -cmd genm {mac} -infotype crlStatusList -oldcrl ca.crl -crlout out.crl', since=V35
    ),
    "genm crlStatusList of a certificate": Case(
        '-config "" -cmd genm {mac} -infotype crlStatusList -crlcert dev.pem -crlout out.crl', since=V35
    ),
    "genm crlStatusList in PEM": Case(
        '-config "" -cmd genm {mac} -infotype crlStatusList -crlcert dev.pem -crlout out.crl -crlform PEM', since=V35
    ),
    "no command": Case('-config "" {mac} {new}', status=1),
    "a command that is none": Case('-config "" -cmd xx {mac} {new}', status=1),
    # the header
    "profile": Case('-config "" -cmd ir {mac} {new} -profile default', since=V35),
    "geninfo int": Case('-config "" -cmd ir {mac} {new} -geninfo 1.2.3:int:987654'),
    "geninfo list": Case('-config "" -cmd ir {mac} {new} -geninfo "1.2.3:int:5, 1.2.4:str:name"', since=V35),
    "geninfo wrong": Case('-config "" -cmd ir {mac} {new} -geninfo 1.2.3:foo:5', status=1),
    "recipient": Case('-config "" -cmd ir {mac} {new} -recipient "/CN=Interop CA"'),
    "recipient by issuer": Case('-config "" -cmd ir {mac} {new} -issuer "/CN=Interop CA"'),
    "no ref": Case(f'-config "" -cmd ir {{to}} -secret pass:s1 -newkey new.key {OUT}', status=1),
    # the template
    "names": Case(
        f'-config "" -cmd ir {{mac}} -newkey new.key {OUT} '
        r'-subject "/DC=org/DC=Example/UID=12+CN=J\/D/2.5.4.5=77/C=DE/emailAddress=a@b.example"'
    ),
    "names of unknown types and without value": Case(
        f'-config "" -cmd ir {{mac}} -newkey new.key {OUT} -subject "/XX=y/OU=/CN=z"'
    ),
    "a name in another form": Case(f'-config "" -cmd ir {{mac}} -newkey new.key {OUT} -subject CN=x', status=1),
    "no name": Case(f'-config "" -cmd ir {{mac}} -newkey new.key {OUT} -subject /', status=1),
    "days": Case('-config "" -cmd ir {mac} {new} -days 12'),
    "days that are no number": Case('-config "" -cmd ir {mac} {new} -days x', status=1),
    "sans": Case('-config "" -cmd ir {mac} {new} -sans "dev.example 192.0.2.1, ::1 http://dev.example/x"'),
    "critical sans": Case('-config "" -cmd ir {mac} {new} -sans critical,dev.example'),
    "san_nodefault": Case('-config "" -cmd kur {sig} -newkey new.key -san_nodefault -certout cert.pem', fresh=True),
    "policy_oids": Case('-config "" -cmd ir {mac} {new} -policy_oids 1.2.3.4,1.3.5', status=1),
    "policy_oids_critical": Case('-config "" -cmd ir {mac} {new} -policy_oids 1.2.3.4 -policy_oids_critical', status=1),
    "policies in two ways": Case(
        "-config openssl.cnf -cmd ir {mac} {new} -policies policies -policy_oids 1.2", status=1
    ),
    "reqexts": Case("-config openssl.cnf -cmd ir {mac} {new} -reqexts extensions -csr new.csr"),
    "reqexts with names": Case("-config openssl.cnf -cmd ir {mac} {new} -reqexts names"),
    "names in two ways": Case("-config openssl.cnf -cmd ir {mac} {new} -reqexts names -sans a.example", status=1),
    "reqexts that are not there": Case('-config "" -cmd ir {mac} {new} -reqexts x', status=1),
    "policies": Case("-config openssl.cnf -cmd ir {mac} {new} -policies policies", status=1),
    "popo signature": Case('-config "" -cmd ir {mac} {new} -popo 1'),
    "popo none": Case('-config "" -cmd ir {mac} {new} -popo -1', status=1),
    "popo raVerified": Case('-config "" -cmd ir {mac} {new} -popo 0', status=1),
    "popo keyEnc": Case('-config "" -cmd ir {mac} {new} -popo 2', status=1),
    "popo wrong": Case('-config "" -cmd ir {mac} {new} -popo 3', status=1),
    "implicit_confirm": Case('-config "" -cmd ir {mac} {new} -implicit_confirm'),
    "disable_confirm": Case('-config "" -cmd ir {mac} {new} -disable_confirm'),
    # keys and passwords
    "newkey in DER": Case(f'-config "" -cmd ir {{mac}} -newkey new.der -subject /CN=x {OUT}'),
    "newkeypass pass": Case(f'-config "" -cmd ir {{mac}} -newkey locked.key -newkeypass pass:pw -subject /CN=x {OUT}'),
    "newkeypass file": Case(
        f'-config "" -cmd ir {{mac}} -newkey locked.key -newkeypass file:pw.txt -subject /CN=x {OUT}'
    ),
    "newkeypass env": Case(
        f'-config "" -cmd ir {{mac}} -newkey locked.key -newkeypass env:PW -subject /CN=x {OUT}',
        environment={"PW": "pw"},
    ),
    "newkeypass wrong": Case(
        f'-config "" -batch -cmd ir {{mac}} -newkey locked.key -newkeypass pass:no -subject /CN=x {OUT}', status=1
    ),
    "secret from a file": Case('-config "" -cmd ir {to} -ref r1 -secret file:s1.txt {new}'),
    "secret from stdin": Case('-config "" -cmd ir {to} -ref r1 -secret stdin {new}', stdin=b"s1\n"),
    "secret in plain": Case('-config "" -cmd ir {to} -ref r1 -secret s1 {new}'),
    "a wrong secret": Case('-config "" -cmd ir {to} -ref r1 -secret pass:no {new}', status=1),
    "a public key, and no proof": Case(
        f'-config "" -cmd ir {{mac}} -newkey new.pub -popo 0 -subject /CN=x {OUT}', status=1
    ),
    "newkey that is not there": Case(f'-config "" -cmd ir {{mac}} -newkey no.key -subject /CN=x {OUT}', status=1),
    "no newkey": Case(f'-config "" -cmd ir {{mac}} -subject /CN=x {OUT}', status=1),
    "cert and key in PKCS#12": Case(
        '-config "" -cmd cr {to} -cert dev.p12 -key dev.p12 -keypass pass:pw -trusted ca.pem {new}'
    ),
    "cert in DER": Case('-config "" -cmd cr {to} -cert dev.der -key dev.key -trusted ca.pem {new}'),
    "cert with its chain": Case(
        '-config "" -cmd cr {to} -cert chain.pem -key dev.key -trusted ca.pem -own_trusted ca.pem {new}'
    ),
    "own_trusted of another CA": Case('-config "" -cmd cr {sig} -own_trusted other.pem {new}', status=1),
    "cert without key": Case('-config "" -cmd cr {to} -cert dev.pem {new}', status=1),
    "key without cert": Case('-config "" -cmd cr {to} -key dev.key {new}', status=1),
    "secret before cert": Case('-config "" -cmd ir {mac} -cert dev.pem -key dev.key {new}'),
    "keyform": Case('-config "" -cmd ir {mac} -keyform PEM {new}'),
    # protection
    "digest": Case('-config "" -cmd cr {sig} {new} -digest sha512'),
    "digest and mac": Case('-config "" -cmd ir {mac} {new} -digest sha384 -mac hmacWithSHA256'),
    "digest unknown": Case('-config "" -cmd ir {mac} {new} -digest nonsense', status=1),
    "mac unknown": Case('-config "" -cmd ir {mac} {new} -mac nonsense', status=1),
    "extracerts": Case('-config "" -cmd cr {sig} {new} -extracerts "other.pem, ca.pem"'),
    "unprotected_requests": Case('-config "" -cmd ir {to} {new} -unprotected_requests -trusted ca.pem', status=1),
    "ta_in_ip_extracerts": Case('-config "" -cmd ir {sig} {new} -ta_in_ip_extracerts', since=(4, 0)),
    "unprotected_errors": Case('-config "" -cmd cr {sig} {new} -unprotected_errors'),
    # whom to trust
    "trusted of another CA": Case(
        '-config "" -cmd cr {to} -cert dev.pem -key dev.key -trusted other.pem {new}', status=1
    ),
    "trusted of two": Case('-config "" -cmd cr {to} -cert dev.pem -key dev.key -trusted both.pem {new}'),
    "trusted, a list": Case('-config "" -cmd cr {to} -cert dev.pem -key dev.key -trusted "other.pem ca.pem" {new}'),
    "untrusted": Case('-config "" -cmd cr {sig} -untrusted other.pem {new}'),
    "srvcert": Case('-config "" -cmd cr {to} -cert dev.pem -key dev.key -srvcert ca.pem {new}'),
    "srvcert of another": Case('-config "" -cmd cr {to} -cert dev.pem -key dev.key -srvcert other.pem {new}', status=1),
    "expect_sender": Case('-config "" -cmd cr {sig} {new} -expect_sender "/CN=Interop CA"'),
    "expect_sender of another": Case('-config "" -cmd cr {sig} {new} -expect_sender /CN=Other', status=1),
    "ignore_keyusage": Case('-config "" -cmd cr {sig} {new} -ignore_keyusage'),
    "no_cache_extracerts": Case('-config "" -cmd cr {sig} {new} -no_cache_extracerts', since=V35),
    "out_trusted": Case('-config "" -cmd cr {sig} {new} -out_trusted ca.pem'),
    "out_trusted of another CA": Case('-config "" -cmd cr {sig} {new} -out_trusted other.pem', status=1),
    "otherpass": Case('-config "" -cmd cr {sig} {new} -otherpass pass:unused'),
    # files written
    "all files": Case('-config "" -cmd ir {mac} {new} -chainout chain.out -cacertsout ca.out -extracertsout extra.out'),
    "one file for certificate and chain": Case('-config "" -cmd cr {sig} {new} -chainout cert.pem', since=V35),
    "files in DER": Case('-config "" -cmd ir {mac} {new} -certform DER'),
    "certform unknown": Case('-config "" -cmd ir {mac} {new} -certform XYZ', status=1),
    "no certout": Case('-config "" -cmd ir {mac} -newkey new.key -subject /CN=x', status=1),
    "certout in no directory": Case(
        '-config "" -cmd ir {mac} -newkey new.key -subject /CN=x -certout no/where', status=1
    ),
    "srvcertout by signature": Case('-config "" -cmd cr {sig} {new} -srvcertout out.pem', since=V35),
    "srvcertout by MAC": Case('-config "" -cmd ir {mac} {new} -srvcertout stale.pem', since=V35),
    "extracertsout of a refusal": Case(
        '-config "" -cmd cr {sig} {new} -extracertsout out.pem -popo 0', since=V35, status=1
    ),
    # messages
    "reqout and rspout": Case('-config "" -cmd ir {mac} {new} -reqout "a.der b.der" -rspout "c.der,d.der"'),
    "reqout of the first": Case('-config "" -cmd ir {mac} {new} -reqout a.der'),
    "reqout_only": Case('-config "" -cmd ir {mac} {new} -reqout_only a.der', since=V35),
    "reqin that is not there": Case('-config "" -cmd ir {mac} {new} -reqin no.der', status=1),
    "rspin that is not there": Case('-config "" -cmd ir {mac} {new} -rspin no.der', status=1),
    "repeat": Case('-config "" -cmd genm {mac} -infotype signKeyPairTypes -repeat 3'),
    "repeat no times": Case('-config "" -cmd genm {mac} -repeat 0', status=1),
    # transfer
    "path": Case('-config "" -cmd ir {mac} {new} -path /p/q'),
    "path in server": Case('-config "" -cmd ir -server 127.0.0.1:{port}/x/y?z=1 -ref r1 -secret pass:s1 {new}'),
    "path before that in server": Case(
        '-config "" -cmd ir -server http://u:p@127.0.0.1:{port}/x#y -path p -ref r1 -secret pass:s1 {new}'
    ),
    "polling": Case('-config "" -cmd ir {mac} {new} -path waits -total_timeout 30'),
    "keep_alive 0": Case('-config "" -cmd ir {mac} {new} -keep_alive 0'),
    "keep_alive 2": Case('-config "" -cmd ir {mac} {new} -keep_alive 2'),
    "keep_alive 3": Case('-config "" -cmd ir {mac} {new} -keep_alive 3', status=1),
    "msg_timeout": Case('-config "" -cmd ir {mac} {new} -msg_timeout 20 -total_timeout 30'),
    "timeouts that contradict": Case('-config "" -cmd ir {mac} {new} -msg_timeout 20 -total_timeout 10', status=1),
    "nobody there": Case(f'-config "" -cmd ir {NO_ONE} -ref r1 -secret pass:s1 {{new}}', status=1),
    "no server": Case('-config "" -cmd ir -ref r1 -secret pass:s1 {new}', status=1),
    "proxy": Case(
        '-config "" -cmd ir -server ca.invalid/cmp -proxy 127.0.0.1:{port} -no_proxy x -ref r1 -secret pass:s1 {new}'
    ),
    "proxy from the environment": Case(
        '-config "" -cmd ir {mac} {new}', environment={"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}, status=1
    ),
    "no_proxy": Case('-config "" -cmd ir {mac} {new} -proxy 127.0.0.1:1 -no_proxy 127.0.0.1'),
    # TLS
    "tls": Case(
        '-config "" -cmd ir -server https://127.0.0.1:{tls_port} -tls_used -tls_trusted ca.pem -ref r1 -secret pass:s1 {new}'
    ),
    "tls without trust": Case(
        '-config "" -cmd ir -server 127.0.0.1:{tls_port} -tls_used -ref r1 -secret pass:s1 {new}'
    ),
    "tls with another trust": Case(
        '-config "" -cmd ir -server 127.0.0.1:{tls_port} -tls_used -tls_trusted other.pem -ref r1 -secret pass:s1 {new}',
        status=1,
    ),
    "tls by https": Case(
        '-config "" -cmd ir -server https://127.0.0.1:{tls_port} -tls_trusted ca.pem -ref r1 -secret pass:s1 {new}',
        since=V35,
    ),
    "tls_host": Case(
        '-config "" -cmd ir -server 127.0.0.1:{tls_port} -tls_used -tls_trusted ca.pem -tls_host localhost -ref r1 '
        "-secret pass:s1 {new}"
    ),
    "tls_host of another": Case(
        '-config "" -cmd ir -server 127.0.0.1:{tls_port} -tls_used -tls_trusted ca.pem -tls_host other.example -ref r1 '
        "-secret pass:s1 {new}",
        status=1,
    ),
    "tls with a client certificate": Case(
        '-config "" -cmd ir -server 127.0.0.1:{tls_port} -tls_used -tls_trusted ca.pem -tls_cert dev.pem -tls_key dev.key '
        "-tls_keypass pass:pw -tls_extra ca.pem -ref r1 -secret pass:s1 {new}"
    ),
    "tls_cert without key": Case(
        '-config "" -cmd ir -server 127.0.0.1:{tls_port} -tls_used -tls_trusted ca.pem -tls_cert dev.pem -ref r1 '
        "-secret pass:s1 {new}",
        status=1,
    ),
    # verification
    "attime long ago": Case('-config "" -cmd cr {sig} {new} -attime 1', status=1),
    "no_check_time": Case('-config "" -cmd cr {sig} {new} -attime 1 -no_check_time', status=TIME_IS_CHECKED),
    "crl_check": Case('-config "" -cmd cr {sig} {new} -crl_check', status=ANCHORS_NEED_CRL),
    "crl_check_all": Case('-config "" -cmd cr {sig} {new} -crl_check_all', status=ANCHORS_NEED_CRL),
    "crl_check and out_trusted": Case('-config "" -cmd ir {mac} {new} -crl_check -out_trusted ca.pem'),
    "purpose any": Case('-config "" -cmd cr {sig} {new} -purpose any'),
    "purpose timestampsign": Case('-config "" -cmd cr {sig} {new} -purpose timestampsign', status=1),
    "purpose unknown": Case('-config "" -cmd cr {sig} {new} -purpose nonsense', status=1),
    "verify_depth": Case('-config "" -cmd cr {sig} {new} -verify_depth 0'),
    "auth_level": Case('-config "" -cmd cr {sig} {new} -auth_level 5', status=1),
    "verify_name": Case('-config "" -cmd cr {sig} {new} -verify_name default'),
    "verify_name unknown": Case('-config "" -cmd cr {sig} {new} -verify_name nonsense', status=1),
    "policy": Case('-config "" -cmd cr {sig} {new} -policy 1.2.3 -explicit_policy'),
    "policy unknown": Case('-config "" -cmd cr {sig} {new} -policy nonsense', status=1),
    "policies without effect": Case(
        '-config "" -cmd cr {sig} {new} -policy_check -inhibit_any -inhibit_map -policy_print'
    ),
    "verify_hostname": Case(
        '-config "" -cmd ir {mac} {new} -sans good.example -out_trusted ca.pem -verify_hostname good.example'
    ),
    "verify_hostname of another": Case(
        '-config "" -cmd ir {mac} {new} -sans good.example -out_trusted ca.pem -verify_hostname bad.example', status=1
    ),
    "verify_ip": Case('-config "" -cmd ir {mac} {new} -sans 192.0.2.9 -out_trusted ca.pem -verify_ip 192.0.2.9'),
    "verify_ip of another": Case(
        '-config "" -cmd ir {mac} {new} -sans 192.0.2.9 -out_trusted ca.pem -verify_ip 192.0.2.8', status=1
    ),
    "verify_email of another": Case(
        '-config "" -cmd ir {mac} {new} -out_trusted ca.pem -verify_email a@b.example', status=1
    ),
    "names of hosts are not for signers": Case('-config "" -cmd cr {sig} {new} -verify_hostname bad.example'),
    "flags": Case(
        '-config "" -cmd cr {sig} {new} -ignore_critical -issuer_checks -x509_strict -extended_crl -use_deltas '
        "-check_ss_sig -trusted_first -partial_chain -no_alt_chains -allow_proxy_certs"
    ),
    "suiteB_128_only": Case('-config "" -cmd cr {sig} {new} -suiteB_128_only'),
    "suiteB_128": Case('-config "" -cmd cr {sig} {new} -suiteB_128'),
    "suiteB_192": Case('-config "" -cmd cr {sig} {new} -suiteB_192', status=1),
    # configuration
    "config": Case("-config openssl.cnf -cmd ir {to}"),
    "config from the environment": Case("-cmd ir {to}", environment={"OPENSSL_CONF": "openssl.cnf"}, process=True),
    "config that is not there": Case("-config no.cnf -cmd ir {to}", status=1),
    "section": Case("-config openssl.cnf -section cmp,quiet -cmd ir {to}"),
    "sections, later ones win": Case('-config openssl.cnf -section "cmp quiet loud" -cmd ir {to}'),
    "section that is not there": Case("-config openssl.cnf -section cmp,nowhere -cmd ir {to}", status=1),
    "no section": Case('-config openssl.cnf -section "" -cmd ir {to} {new} -ref r1 -secret pass:s1'),
    "default section gives defaults": Case("-config openssl.cnf -section extensions -cmd ir {mac} {new}"),
    "command line before config": Case("-config openssl.cnf -cmd ir {to} -subject /CN=mine -days 3"),
    "config that includes another": Case("-config included.cnf -section more,cmp -cmd ir {to}"),
    "verbosity": Case('-config "" -cmd ir {mac} {new} -verbosity 8'),
    "quiet": Case('-config "" -cmd ir {mac} {new} -verbosity 0'),
    "verbosity unknown": Case('-config "" -cmd ir {mac} {new} -verbosity 9', status=1),
    # the rest
    "provider": Case('-config "" -cmd ir {mac} {new} -provider default -propquery "?fips=yes"', process=True),
    "provider that is not there": Case(
        '-config "" -cmd ir {mac} {new} -provider-path . -provider nonsense', process=True, status=1
    ),
    "propquery that nothing fits": Case('-config "" -cmd ir {mac} {new} -propquery none=such', status=1),
    "rand and writerand": Case('-config "" -cmd ir {mac} {new} -rand seed -writerand out.seed'),
    "engine": Case('-config "" -cmd ir {mac} {new} -engine nonsense', status=1),
    "batch": Case('-config "" -cmd ir {mac} {new} -batch'),
    "help": Case("-help"),
    "an unknown option": Case('-config "" -nonsense', status=1),
    "an option without its value": Case('-config "" -cmd', status=1),
    "a word too many": Case('-config "" -cmd ir {mac} {new} word', status=1),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(tmp_path_factory.mktemp("cmp")) as made:
        yield made


@pytest.mark.parametrize("case", SAME.values(), ids=SAME.keys())
def test_both_programs_send_write_and_end_the_same(world: World, case: Case) -> None:
    ours = case.ran(world, ours=True)
    assert ours.status == case.status, ours
    if program_version() >= case.since:
        theirs = case.ran(world, ours=False)
        assert (ours.status, ours.sent, ours.files) == (theirs.status, theirs.sent, theirs.files), (ours, theirs)


# -- several runs, one after the other -----------------------------------------------------------------------------------

RECORD = '-config "" -cmd ir {mac} {new} -reqout "q1 q2" -rspout "a1 a2"'


def recorded(world: World, command: str = RECORD, *, ours: bool) -> dict[str, bytes]:
    """The messages of a transaction."""
    ran = world.run(command, ours=ours)
    assert ran.status == 0, ran
    return {name: (ran.directory / name).read_bytes() for name in ("q1", "q2", "a1", "a2") if name in ran.files}


@pytest.mark.parametrize("writer", [True, False], ids=["ours", "theirs"])
@pytest.mark.parametrize(
    ("command", "status"),
    [
        ('-config "" -cmd ir -ref r1 -secret pass:s1 {new} -rspin "a1 a2"', 0),
        ('-config "" -cmd ir -ref r1 -secret pass:s1 {new} -rspin a1', 1),
        ('-config "" -cmd ir -ref r1 -secret pass:no {new} -rspin "a1 a2"', 1),
        ('-config "" -cmd ir {mac} {new} -reqin "q1" -reqin_new_tid', 0),
        ('-config "" -cmd ir {mac} {new} -reqin "q1,q2" -reqin_new_tid', 1),
        ('-config "" -cmd ir {mac} {new} -reqin "q1"', 1),
        ('-config "" -cmd ir {mac} {new} -reqin "q2" -reqin_new_tid', 1),
        ('-config "" -cmd ir {mac} {new} -reqin "q1 q2" -reqin_new_tid -rspout "x1 x2" -reqout "y1 y2"', 1),
    ],
)
def test_messages_in_files_are_used_the_same(world: World, writer: bool, command: str, status: int) -> None:
    files = recorded(world, ours=writer)
    ours = world.run(command, ours=True, before=files)
    assert ours.status == status, ours
    theirs = world.run(command, ours=False, before=files)
    assert (ours.status, ours.sent, ours.files) == (theirs.status, theirs.sent, theirs.files), (ours, theirs)


def test_a_request_made_without_the_server_is_sent_later(world: World) -> None:
    made = world.run('-config "" -cmd ir -ref r1 -secret pass:s1 {new} -reqout_only first', ours=True)
    assert (made.status, made.sent) == (0, [])
    request = {"first": (made.directory / "first").read_bytes()}
    ran = world.run(
        '-config "" -cmd ir {mac} -reqin first -newkey new.key -certout cert.pem', ours=True, before=request
    )
    assert ran.status == 0, ran
    assert ran.files == {"cert.pem": ["PEM", "CN=new,O=Test"]}


def test_the_public_key_of_a_request_in_a_file_is_enough(world: World) -> None:
    made = world.run('-config "" -cmd ir -ref r1 -secret pass:s1 {new} -reqout_only first', ours=True)
    request = {"first": (made.directory / "first").read_bytes()}
    command = '-config "" -cmd ir {mac} -reqin first -subject /CN=new -popo 0 -certout cert.pem'
    ran = world.run(command, ours=True, before=request)
    assert ran.status == 0, ran


def test_a_secret_comes_from_a_file_descriptor(world: World) -> None:
    for ours in (True, False):
        command = '-config "" -cmd ir {to} -ref r1 -secret fd:0 {new}'
        ran = world.run(command, ours=ours, process=True, stdin=b"s1\nmore\n")
        assert ran.status == 0, ran


# -- the list of options ---------------------------------------------------------------------------------------------------

ELSEWHERE = {"reqin_new_tid", "centralkeygen", "newkeyout", "serial", "provparam", "suiteB_192"}


def test_every_option_has_a_case() -> None:
    used = set().union(*(case.options for case in SAME.values())) | ELSEWHERE
    # Those that {mac}, {sig} and {new} stand for.
    used |= {"server", "ref", "secret", "cert", "key", "trusted", "newkey", "subject", "certout"}
    assert {name for name, option in OPTIONS.items() if option.kind != "mock"} - used == set()


def test_help_shows_every_option() -> None:
    text = usage()
    assert [name for name in OPTIONS if f"-{name}" not in text] == []


@pytest.mark.skipif(program_version() < V35, reason="the program is older than our list of options")
def test_we_take_every_option_that_the_program_takes(world: World) -> None:
    listed = world.run("-help", ours=False)
    assert set(re.findall(r"^ -([\w-]+)", listed.out + listed.err, re.MULTILINE)) - set(OPTIONS) == set()


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.kind == "mock"])
def test_options_of_the_mock_server_say_what_to_use(world: World, name: str) -> None:
    ran = world.run(f"-{name} x", ours=True)
    assert ran.status == 1
    assert "opensslcmp serve" in ran.err


def test_engines_and_provider_parameters_say_what_to_use(world: World) -> None:
    for option, word in (
        ("-engine e", "-provider"),
        ("-keyform ENGINE", "-provider"),
        ("-provparam p=q", "configuration file"),
        ("-key org.openssl.engine:e:k -cert dev.pem", "-provider"),
    ):
        ran = world.run(f'-config "" -cmd ir {{mac}} {{new}} {option}', ours=True)
        assert ran.status == 1
        assert word in ran.err


# -- where the two differ: docs/openssl-cmp.md -------------------------------------------------------------------------------


def test_an_unset_variable_is_no_secret_here(world: World) -> None:
    command = '-config "" -cmd ir {to} -ref r1 -secret env:NOT_SET {new}'
    ours, theirs = (world.run(command, ours=ours) for ours in (True, False))
    assert (ours.status, theirs.status) == (1, 1)
    assert ours.sent == []
    assert "NOT_SET" in ours.err
    assert [kind for _, _, message in theirs.sent for kind in [message["type"]]] == ["ir"]


def test_the_configuration_file_may_follow_an_equals_sign(world: World) -> None:
    ours, theirs = (world.run("-config=openssl.cnf -cmd ir {to}", ours=ours) for ours in (True, False))
    assert (ours.status, theirs.status) == (0, 1)


@pytest.mark.parametrize("infotype", ["caCerts", "certReqTemplate"])
def test_an_answer_to_genm_without_a_file_is_told(world: World, infotype: str) -> None:
    command = f'-config "" -cmd genm {{mac}} -infotype {infotype}'
    ours, theirs = (world.run(command, ours=ours) for ours in (True, False))
    assert ours.status == 0
    assert f"id-it-{infotype}" in ours.out
    assert theirs.status == (1 if program_version() >= V35 else 0)


@pytest.mark.skipif(program_version() >= V35, reason="this program is as new as ours")
@pytest.mark.parametrize(
    ("command", "status"),
    [
        ('-config "" -cmd cr {sig} {new} -chainout cert.pem', 0),
        ('-config "" -cmd genm {mac} -infotype caCerts -cacertsout out.pem', 0),
        ('-config "" -cmd genm {mac} -infotype crlStatusList -crlcert dev.pem -crlout out.crl', 1),
        ('-config "" -cmd ir {mac} {new} -geninfo 1.2.4:str:name', 1),
        ('-config "" -cmd ir {mac} {new} -profile default', 1),
        (
            '-config "" -cmd ir -server https://127.0.0.1:{tls_port} -tls_trusted ca.pem -ref r1 -secret pass:s1 {new}',
            1,
        ),
    ],
)
def test_what_the_program_of_3_0_cannot_do_is_done_here(world: World, command: str, status: int) -> None:
    ours, theirs = (world.run(command, ours=ours) for ours in (True, False))
    assert (ours.status, theirs.status) == (0, status)
    assert ours.files != theirs.files


def test_revocation_by_serial_number_works_on_every_version(world: World) -> None:
    device, key = world.enroll("another")
    files = {"dev.pem": device.public_bytes(PEM), "dev.key": key.private_bytes(PEM, PKCS8, PLAIN)}
    command = '-config "" -cmd rr {sig} -issuer "/CN=Interop CA" -serial ' + hex(device.serial_number)
    ran = world.run(command, ours=True, before=files)
    assert ran.status == 0, ran
    assert ran.sent[0][2]["body"][0]["certDetails"]["issuer"] == "CN=Interop CA"
    again = world.run(command, ours=True, before=files)
    assert again.status == 1


def test_a_running_repetition_uses_new_transactions(world: World) -> None:
    world.run('-config "" -cmd genm {mac} -infotype signKeyPairTypes -repeat 3', ours=True)
    ids = {admit(request).transaction_id for _, _, request in world.received}
    assert len(ids) == 3


def test_central_key_generation(world: World) -> None:
    """OpenSSL 3.5 asks for it; our CA does not make keys, so the answer is a refusal. Older ones do not ask."""
    command = '-config "" -cmd ir {mac} -subject /CN=x -certout cert.pem -centralkeygen -newkeyout made.key'
    ours = world.run(command, ours=True)
    assert ours.status == 1
    if program_version() >= V35:
        theirs = world.run(command, ours=False)
        assert (ours.sent, ours.files) == (theirs.sent, theirs.files)
        assert len(ours.sent) > 0
        missing = world.run('-config "" -cmd ir {mac} -subject /CN=x -certout cert.pem -centralkeygen', ours=True)
        assert "-newkeyout" in missing.err
    else:
        assert ours.sent == []
        assert "3.5" in ours.err


# -- what goes wrong ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("required", "status"), [(1, 0), (2, 1)])
def test_a_server_that_closes_connections_is_refused_only_if_they_must_persist(
    world: World, required: int, status: int
) -> None:
    world.keep_alive = False
    try:
        for ours in (True, False):
            ran = world.run(f'-config "" -cmd ir {{mac}} {{new}} -keep_alive {required}', ours=ours)
            assert ran.status == status, ran
    finally:
        world.keep_alive = True


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-csr no.csr", "no.csr"),
        ("-csr new.key", "PKCS#10"),
        ("-trusted no.pem", "no.pem"),
        ("-trusted new.key", "new.key"),
        (r"-recipient /CN=x\\", "backslash"),
        ("-recipient /CN", "no ="),
        ("-recipient /C=Germany", "recipient"),
        ("-sans bäd.example", "sans"),
        ("-geninfo 1.2.3:int:x", "not a number"),
        ("-geninfo nonsense:int:1", "nonsense"),
        ("-proxy 127.0.0.1:99999", "port"),
        ("-config broken.cnf", "line 1"),
        ("-config numbers.cnf -section numbers", "as a number"),
        ("-reqexts x -config openssl.cnf", "[x]"),
        ("-reqout no/where", "where"),
        ("-help=1", "value"),
    ],
)
def test_what_cannot_be_used_is_named(world: World, options: str, words: str) -> None:
    broken = {"broken.cnf": b"nonsense\n", "numbers.cnf": b"[numbers]\ndays = many\n"}
    ran = world.run(f'-config "" -cmd ir {{mac}} {{new}} {options}', ours=True, before=broken)
    assert ran.status == 1
    assert words in ran.err


def test_a_password_is_asked_for_at_a_terminal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return "pw"

    monkeypatch.setattr("opensslcmp.cli.cmp.sources.getpass.getpass", getpass)
    monkeypatch.setattr("opensslcmp.cli.cmp.sources.Sources._has_terminal", staticmethod(lambda: True))
    command = f'-config "" -cmd ir {{mac}} -newkey locked.key -subject /CN=x {OUT}'
    assert world.run(command, ours=True).status == 0
    assert asked == ["Password of -newkey locked.key: "]
    assert world.run(f"{command} -batch", ours=True).status == 1
    assert len(asked) == 1


def test_polling_ends_with_the_total_timeout(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, slept, left = Log(), list[float](), Transfer.left
    monkeypatch.chdir(world.files)
    monkeypatch.setattr(Transfer, "left", lambda self: left(self) - sum(slept))
    words = world.words(
        '-config "" -cmd ir {mac} {new} -path waits/on -total_timeout 60 -certout ' + str(tmp_path / "c")
    )
    command = Command(parse(words, log), log, sleep=slept.append)
    with pytest.raises(TimedOut):
        command.run()
    assert [round(seconds) for seconds in slept] == [55]
    assert not (tmp_path / "c").exists()


def test_ctrl_c_ends_with_its_own_status(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Command) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Command, "run", interrupt)
    assert world.run('-config "" -cmd ir {mac} {new}', ours=True).status == 130


def test_a_root_that_the_old_key_did_not_sign_is_not_written(world: World) -> None:
    command = '-config "" -cmd genm {mac} -infotype rootCaCert -newwithnew nn.pem -oldwithold '
    refused = world.run(command + "other.pem", ours=True)
    fine = world.run(command + "ca.pem", ours=True)
    assert fine.status == 0
    assert "nn.pem" not in refused.files


def test_files_of_an_earlier_run_do_not_pass_for_an_answer(world: World) -> None:
    command = '-config "" -cmd genm {mac} -infotype crlStatusList -oldcrl ca.crl -crlout stale.pem'
    assert world.run(command, ours=True).files == {"stale.pem": "gone"}
    command = '-config "" -cmd genm {mac} -infotype rootCaCert -oldwithold ca.pem -newwithnew stale.pem'
    assert world.run(command, ours=True).files == {"stale.pem": "gone"}


def test_what_a_peer_says_does_not_reach_the_terminal_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Log().info("a\x1b[2Jb")
    assert capsys.readouterr().out == "CMP info: a\\x1b[2Jb\n"


def test_lists_have_commas_or_white_space() -> None:
    assert items(" a.pem,b.pem  c\\,d.pem ,") == ["a.pem", "b.pem", "c,d.pem"]
    assert items(None) == []


@pytest.mark.skipif(program_version() < V35, reason="central key generation came with OpenSSL 3.5")
@pytest.mark.parametrize("password", ["", "-newkeypass pass:a-password"], ids=["plain", "encrypted"])
def test_a_key_that_the_ca_made_is_written(world: World, tmp_path: Path, password: str) -> None:
    """Ours and theirs get the same key from OpenSSL's mock server, whose key generation needs a certificate for it."""
    root, key, device = peers.new_key(), peers.new_key(), peers.new_key()
    name = peers.name("Key CA")
    ca = peers.issue(name, root.public_key(), name, root, ca=True)
    usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.32"), ExtendedKeyUsageOID.EMAIL_PROTECTION])
    server = peers.issue(peers.name("server"), key.public_key(), name, root, extensions=[usage])
    client = peers.issue(peers.name("device"), device.public_key(), name, root)
    files = {
        "ca.pem": ca.public_bytes(PEM),
        "srv.pem": server.public_bytes(PEM),
        "srv.key": key.private_bytes(PEM, PKCS8, PLAIN),
        "dev.pem": client.public_bytes(PEM),
        "dev.key": device.private_bytes(PEM, PKCS8, PLAIN),
    }
    for place, data in files.items():
        (tmp_path / place).write_bytes(data)
    options = "-srv_cert srv.pem -srv_key srv.key -srv_trusted ca.pem -srv_untrusted ca.pem -rsp_cert dev.pem -rsp_key dev.key"
    command = ["openssl", "cmp", "-config", "", "-port", "0", *options.split()]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stdout is not None
        port = next(line.split()[1].rpartition(":")[2] for line in running.stdout if line.startswith("ACCEPT"))
        try:
            for ours in (True, False):
                ran = world.run(
                    f'-config "" -cmd ir -server 127.0.0.1:{port} -cert dev.pem -key dev.key -trusted ca.pem '
                    f"-subject /CN=device -certout cert.pem -centralkeygen -newkeyout made.key {password}",
                    ours=ours,
                    # libcrypto 3.5 accepts only the first such answer of a process ("unsuitable certificate purpose").
                    process=True,
                    before=files,
                )
                assert ran.status == 0, ran
                made = serialization.load_pem_private_key(
                    (ran.directory / "made.key").read_bytes(), b"a-password" if password else None
                )
                assert made.public_key() == device.public_key()
        finally:
            running.kill()
