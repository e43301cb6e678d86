"""``cmp_certificate``: an Ansible module that keeps a host's certificate valid, by CMP.

It changes nothing when the certificate on the host is good for long enough and has the wished names, so a play can run as
often as it likes; ``--check`` tells what would be done. Put this file into ``library/`` beside the playbook:

    - cmp_certificate:
        server: http://ca.example/.well-known/cmp
        certificate: /etc/ssl/host.pem
        private_key: /etc/ssl/host.key
        trusted: /etc/ssl/ca.pem
        subject: CN=host.example
        names: [host.example]
        reference: host-1          # for the first certificate, and for other names
        secret: "{{ vault_secret }}"

Ansible is needed only to be called by it: without it, ``main`` reads the same parameters as JSON from stdin, which is how
the tests run it:

    echo '{"ANSIBLE_MODULE_ARGS": {"server": "...", ...}}' | python examples/ansible_module.py
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp import CMPError, Context, PrivateKey, Session, SharedSecret, Signer

PARAMETERS = {
    "server": {"type": "str", "required": True},
    "certificate": {"type": "str", "required": True},
    "private_key": {"type": "str", "required": True},
    "trusted": {"type": "str", "required": True},
    "subject": {"type": "str", "required": True},
    "names": {"type": "list", "elements": "str", "default": []},
    "reference": {"type": "str"},
    "secret": {"type": "str", "no_log": True},  # Ansible then keeps it out of its logs
    "renew_days": {"type": "int", "default": 30},
}


class Shim:
    """The part of ``AnsibleModule`` that this file uses: parameters from stdin, the result on stdout, both JSON."""

    def __init__(self, argument_spec, supports_check_mode):
        given = json.load(sys.stdin)["ANSIBLE_MODULE_ARGS"]
        self.check_mode = supports_check_mode and given.pop("_ansible_check_mode", False)
        missing = [name for name, about in argument_spec.items() if about.get("required") and name not in given]
        if missing or given.keys() - argument_spec.keys():
            self.fail_json(msg=f"missing: {missing}; unknown: {sorted(given.keys() - argument_spec.keys())}")
        self.params = {name: given.get(name, about.get("default")) for name, about in argument_spec.items()}

    def exit_json(self, **result):
        print(json.dumps(result))
        sys.exit(0)

    def fail_json(self, msg):
        print(json.dumps({"failed": True, "msg": msg}))
        sys.exit(1)


def due(parameters):
    """Why something is to be done: ``absent``, ``names`` or ``ending``; None when all is well."""
    place = Path(parameters["certificate"])
    if not place.exists() or not Path(parameters["private_key"]).exists():
        return "absent"
    certificate = x509.load_pem_x509_certificate(place.read_bytes())
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = found.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = []
    if sorted(names) != sorted(parameters["names"]):
        return "names"
    ends = certificate.not_valid_after_utc
    return "ending" if ends - datetime.now(UTC) < timedelta(days=parameters["renew_days"]) else None


def issue(parameters, reason):
    """Get the certificate: another one by the secret, the next one authenticated by the one there is.

    A key update keeps subject and names (RFC 9483, 4.1.3), so for other names the host asks as in the beginning.
    """
    place, key_place, trusted = (Path(parameters[name]) for name in ("certificate", "private_key", "trusted"))
    names = [x509.DNSName(name) for name in parameters["names"]]
    key = PrivateKey.generate("ec:P-256")
    if reason != "ending":
        credential = SharedSecret(parameters["reference"], parameters["secret"].encode())
        with Session(Context(parameters["server"], credential=credential)) as session:
            issued = session.enroll(parameters["subject"], key, subject_alternative_names=names)
        trusted.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in issued.ca_certificates))
    else:
        context = Context(parameters["server"], credential=Signer(place, key_place), trusted=[trusted])
        with Session(context) as session:
            issued = session.update(key=key)
    key_place.touch(mode=0o600)
    key_place.write_bytes(key.to_pem())
    place.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in (issued.certificate, *issued.chain)))
    return issued.certificate


def main():
    try:
        from ansible.module_utils.basic import AnsibleModule as Module
    except ImportError:
        Module = Shim  # noqa: N806 -- stands for a class
    module = Module(argument_spec=PARAMETERS, supports_check_mode=True)
    reason = due(module.params)
    if reason is None or module.check_mode:
        module.exit_json(changed=reason is not None, reason=reason)
    try:
        certificate = issue(module.params, reason)
    except (CMPError, OSError, AttributeError) as error:
        module.fail_json(msg=f"no certificate: {error}")
    module.exit_json(changed=True, reason=reason, serial_number=f"{certificate.serial_number:x}")


if __name__ == "__main__":
    main()
