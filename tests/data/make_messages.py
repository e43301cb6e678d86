"""Make the messages in ``cmp/`` anew: ``openssl cmp`` talks to its own mock server, and both sides' messages are kept.

Run as ``python tests/data/make_messages.py DIRECTORY``. Names read ``<run>-<round><a: request, b: answer>-<body>.der``.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from opensslcmp.asn1 import admit

MAC_SERVER = "-srv_ref server -srv_secret pass:secret -rsp_cert new.pem -rsp_extracerts ca.pem"
MAC_CLIENT = (
    "-ref device -secret pass:secret -subject /O=Example/CN=device -recipient /O=Example/CN=server"
    " -newkey new.key -certout out.pem"
)
SIGNING_SERVER = "-srv_cert srv.pem -srv_key srv.key -srv_trusted ca.pem -rsp_cert new.pem -rsp_extracerts ca.pem"
SIGNING_CLIENT = "-cert dev.pem -key dev.key -trusted ca.pem -newkey new.key -certout out.pem"
MAC, SIGNED = f"{MAC_SERVER} {MAC_CLIENT}", f"{SIGNING_SERVER} {SIGNING_CLIENT}"
RUNS = {
    "mac_ir": f"{MAC} -cmd ir -popo 1 -sans device.example -reqexts x -config x.cnf -rsp_capubs ca.pem",
    "mac_ir_implicit": f"{MAC} -cmd ir -implicit_confirm -grant_implicitconf",
    "mac_cr": f"{MAC} -cmd cr",
    "mac_p10cr": f"{MAC} -cmd p10cr -csr new.csr",
    "mac_poll": f"{MAC} -cmd ir -poll_count 2 -check_after 1",
    "mac_genm": f"{MAC} -cmd genm",
    "mac_genm_sign": f"{MAC} -cmd genm -infotype signKeyPairTypes -geninfo 1.2.3:int:987",
    "mac_rr": f"{MAC} -cmd rr -oldcert dev.pem -revreason 1",
    "mac_rr2": f"{MAC} -cmd rr -oldcert new.pem -revreason 1",
    "mac_error": f"{MAC} -cmd ir -send_error -failure 9 -statusstring no -pkistatus 2",
    "mac_reject": f"{MAC} -cmd cr -failure 19 -statusstring refused -pkistatus 2",
    "mac_raverified": f"{MAC} -cmd ir -popo 0 -accept_raverified",
    "mac_pbm_owf": f"{MAC} -cmd cr -digest sha512 -mac hmacWithSHA256",
    "sig_ir": f"{SIGNED} -cmd ir -extracerts ca.pem",
    "sig_kur": f"{SIGNED} -cmd kur -oldcert new.pem",
    "sig_rr": f"{SIGNED} -cmd rr -oldcert dev.pem -revreason 5",
    "sig_rr2": f"{SIGNED} -cmd rr -oldcert new.pem -revreason 5",
    "sig_cr": f"{SIGNED} -cmd cr -days 30",
    "sig_genm": f"{SIGNED} -cmd genm -infotype caKeyUpdateInfo",
    "unprot_ir": f"{MAC} -cmd ir -unprotected_requests -accept_unprotected -send_unprotected -unprotected_errors",
    "sig_error": f"{SIGNED} -cmd ir -send_error -failurebits 3 -pkistatus 2 -statusstring bits",
}


def openssl(directory: Path, arguments: str, check: bool = True) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=directory, check=check, capture_output=True)


def make_certificates(directory: Path) -> None:
    for name in ("ca", "srv", "dev", "new"):
        openssl(directory, f"ecparam -name prime256v1 -genkey -noout -out {name}.key")
    openssl(
        directory,
        "req -x509 -new -key ca.key -subj /O=Example/CN=CA -days 7000 -out ca.pem"
        " -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign",
    )
    (directory / "extensions").write_text(
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nkeyUsage=critical,digitalSignature\n"
    )
    (directory / "x.cnf").write_text(
        "[x]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"
    )
    for name, subject in (("srv", "server"), ("dev", "device"), ("new", "device")):
        openssl(directory, f"req -new -key {name}.key -subj /O=Example/CN={subject} -out {name}.csr")
        openssl(
            directory,
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 7000 -extfile extensions"
            f" -out {name}.pem",
        )


def main(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_certificates(work)
        for run, arguments in RUNS.items():
            sides = [",".join(f"{turn}{side}.der" for turn in range(1, 5)) for side in "ab"]
            # Several of these are refused, as they are meant to be.
            openssl(work, f"cmp -use_mock_srv {arguments} -reqout {sides[0]} -rspout {sides[1]}", check=False)
            for path in sorted(work.glob("[1-4][ab].der")):
                der = path.read_bytes()
                (target / f"{run}-{path.stem}-{admit(der).body_type.text}.der").write_bytes(der)
                path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
