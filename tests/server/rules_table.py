"""Writes docs/rules.md: ``python -m tests.server.rules_table``. ``test_rules_table`` fails when that is to be done.

What a broken rule gets under each profile is tried, not told: the message of ``test_rules.CASES`` is sent to a server of each.
"""

from __future__ import annotations

import re
from pathlib import Path

from opensslcmp.client.announcements import ANNOUNCEMENTS
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.server import PROFILES, RULES, Rule, Stage
from tests.server.device import said
from tests.server.test_rules import CASES
from tests.server.world import fresh_world

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "rules.md"

STAGES = {
    Stage.HEADER: "Header",
    Stage.VERIFY: "Protection",
    Stage.REQUESTER: "Who asks",
    Stage.OPENING: "The first message of a transaction",
    Stage.FOLLOW_UP: "Messages that follow",
    Stage.REQUEST: "Requests for certificates",
    Stage.CONFIRM: "certConf",
    Stage.POLL: "pollReq",
    Stage.REVOKE: "rr",
    Stage.INFO: "genm",
    Stage.NESTED: "nested",
    Stage.PROVE: "popdecr",
    Stage.RECOVER: "krr",
}

_WELL = "test_a_well_behaved_device_passes_under_every_profile"
_BY_STAGE = {
    Stage.POLL: "test_any_request_may_wait_and_any_worker_has_its_answer",
    Stage.INFO: "test_genm_is_answered",
    Stage.NESTED: "test_protection_is_added_to_a_whole_enrollment",
}
_BY_BODY = {
    frozenset((BodyType.KRR,)): "test_a_key_that_was_sent_is_given_back_to_its_owner",
    frozenset((BodyType.CCR,)): "test_another_ca_gets_a_cross_certificate",
    ANNOUNCEMENTS: "test_each_kind_has_its_hook",
    frozenset((BodyType.NESTED,)): "test_protection_is_added_to_a_whole_enrollment",
    frozenset((BodyType.P10CR,)): "test_each_kind_of_request_has_its_answer",
}
PASSES = {
    "proof_is_of_an_accepted_kind": "test_possession_is_proved_by_decryption",
    "proof_fits_the_key": "test_possession_is_proved_by_decryption",
    "key_that_is_to_sign_signs": "test_possession_is_proved_by_decryption",
    "challenge_is_open": "test_a_challenge_is_as_the_rfc_says",
    "message_time_is_near": "test_the_window_of_the_time_is_the_same_on_both_sides",
    "message_time_is_there": "test_an_older_peer_passes_under_lenient",
    "body_is_for_the_paths_operation": "test_nested_comes_by_the_paths_that_are_for_it",
    "implicit_confirm_is_null": "test_implicit_confirmation_is_echoed_exactly_when_granted",
    "implicit_confirm_is_for_requests": "test_implicit_confirmation_is_echoed_exactly_when_granted",
    "general_info_is_there_once": "test_an_info_of_the_header_that_nobody_knows_is_passed_over",
    "cert_profile_is_a_list_of_texts": "test_an_unknown_cert_profile_is_rejected_and_a_known_one_chosen",
    "cert_profile_is_for_requests": "test_each_request_names_its_own_cert_profile",
    "cert_profiles_are_as_many_as_requests": "test_each_request_names_its_own_cert_profile",
    "batched_message_is_protected": "test_unprotected_messages_in_a_batch_are_the_ras_where_the_rule_is_off",
    "mac_sender_is_the_reference": "test_openssl_names_pass_under_the_default_profile",
    "central_key_needs_version_3": "test_a_secret_receives_a_key_by_a_password_recipient",
    "central_key_is_of_a_kind_that_is_made": "test_the_kind_of_the_template_is_made",
    "central_key_can_be_received": "test_an_ec_certificate_receives_it_by_key_agreement",
    "central_key_has_no_proof": "test_a_secret_receives_a_key_by_a_password_recipient",
    "key_to_archive_is_that_of_the_request": "test_a_key_that_was_sent_is_given_back_to_its_owner",
    "signer_is_recorded": "test_a_certificate_that_is_not_in_the_records_signs_when_it_is_listed_as_an_ras",
    "signer_is_in_force": "test_a_holder_puts_a_certificate_on_hold_and_releases_it",
    "no_update_is_open": "test_an_update_that_is_not_confirmed_leaves_the_old_certificate",
    "secret_is_not_used_up": "test_a_single_use_secret_issues_once",
    "open_transactions_are_bounded": "test_open_transactions_are_bounded_in_all_and_by_credential",
    "transaction_stays_at_its_label": "test_a_request_that_waits_is_polled_for_at_the_label_where_it_began",
    "messages_are_bounded": "test_messages_of_a_transaction_are_bounded",
    "requests_are_not_too_many": "test_several_requests_are_answered_in_order",
    "request_ids_count_from_zero": "test_several_requests_are_answered_in_order",
    "key_is_one_that_is_certified": "test_keys_of_every_kind_are_certified_and_then_sign",
    "subject_or_san_is_there": "test_a_poposk_input_is_verified",
    "popo_input_is_not_there_needlessly": "test_a_poposk_input_is_verified",
    "popo_input_is_there_when_needed": "test_a_poposk_input_is_verified",
    "popo_input_fits": "test_a_poposk_input_is_verified",
    "secret_is_for_the_names": "test_a_secret_is_bound_to_names",
    "secret_is_for_the_profile": "test_a_secret_is_bound_to_profiles_and_the_first_is_for_who_names_none",
    "signer_asks_for_its_own_names": "test_a_signer_asks_for_its_own_names_where_the_rule_is_on",
    "template_leaves_the_rest_to_us": "test_a_template_that_says_what_is_ours_is_a_bad_template",
    "extensions_are_there_once": "test_every_kind_of_alternative_name_is_issued",
    "basic_constraints_fit": "test_a_key_usage_with_bits_that_have_no_name_is_not_issued",
    "update_is_of_our_certificate": "test_an_update_takes_the_place_of_the_old_certificate",
    "old_cert_id_names_the_signer": "test_an_update_takes_the_place_of_the_old_certificate",
    "updated_key_is_new": "test_a_key_is_updated_with_itself_where_the_profile_says_so",
    "key_and_subject_are_new": "test_the_same_key_and_subject_are_certified_once_where_the_profile_says_so",
    "ra_verified_is_said_by_an_ra": "test_a_certificate_that_is_not_in_the_records_signs_when_it_is_listed_as_an_ras",
    "each_certificate_has_one_status": "test_some_are_confirmed_and_others_not",
    "confirmed_ids_are_known": "test_some_are_confirmed_and_others_not",
    "status_makes_sense": "test_a_rejected_certificate_is_revoked",
    "confirmed_certificate_is_in_force": (
        "test_a_certificate_that_is_held_before_it_is_confirmed_is_confirmed_after_its_release"
    ),
    "hash_alg_needs_version_3": "test_a_hash_alg_of_the_peer_counts_with_version_3",
    "hash_alg_is_known": "test_a_hash_alg_of_the_peer_counts_with_version_3",
    "reason_is_there": "test_a_revocation_without_a_reason_is_for_the_field_only",
    "reason_is_there_once": "test_an_rr_may_say_more_than_a_reason",
    "reason_is_known": "test_each_reason_is_said_and_stands_in_the_crl",
    "revoker_is_the_holder_or_an_ra": "test_a_registration_authority_revokes_for_others",
    "certificate_is_not_revoked": "test_a_registration_authority_holds_releases_and_revokes_for_good",
    "valid_certificate_is_not_revived": "test_a_holder_puts_a_certificate_on_hold_and_releases_it",
    "only_held_certificates_are_revived": "test_what_is_revoked_for_good_is_revived_where_the_rule_is_off",
    "info_types_are_not_too_many": "test_a_list_leaves_out_what_is_not_known",
    "info_types_are_named": "test_an_empty_genm_asks_for_everything",
    "info_values_are_there": "test_a_crl_is_told_when_it_is_newer",
    "info_values_decode": "test_one_language_is_chosen",
    "batched_transaction_ids_differ": "test_a_batch_is_bounded",
    "batched_nonces_differ": "test_a_batch_is_bounded",
    "one_message_is_no_batch": "test_one_message_under_another_transaction_id_is_a_batch_of_one",
}

# What cannot be switched off: form, arithmetic, what the authority decides, and the transport.
FIXED: list[tuple[str, str, str, str, str]] = [
    # what, source, answer, where, tests
    (
        "one DER element, nothing behind it",
        "RFC 9483, 3.5",
        "error badDataFormat",
        "asn1.gate",
        "test_what_is_no_der_is_bad_data_under_a_signature",
    ),
    (
        "lengths are minimal and definite",
        "X.690, 10.1",
        "error badDataFormat",
        "asn1.gate",
        "test_length_that_is_not_minimal_is_refused",
    ),
    (
        "a message, its header, its lists and certificates are within `Limits`",
        "RFC 9810, 5.1",
        "error badDataFormat or badRequest",
        "asn1.gate",
        "test_bounds_are_kept_and_told_by_the_right_bit",
    ),
    (
        "pvno is 2 or 3",
        "RFC 9810, 7",
        "error unsupportedVersion, in version 2",
        "asn1.gate",
        "test_another_version_is_unsupported_and_answered_in_ours",
    ),
    (
        "the body is one for a server",
        "RFC 9810, 5.1.2",
        "error badRequest",
        "asn1.gate",
        "test_a_body_that_is_not_for_a_server_is_refused",
    ),
    (
        "a body of the type that its tag says",
        "RFC 9810, 5.1.2",
        "error badDataFormat",
        "asn1.bodies",
        "test_the_body_of_one_type_under_the_tag_of_another_is_bad_data",
    ),
    (
        "at least one request in an ir, cr, kur, rr, pollReq, nested",
        "RFC 4211, 3",
        "error badDataFormat or badRequest",
        "asn1.bodies",
        "test_an_empty_list_asks_for_nothing",
    ),
    (
        "transactionID and nonces have 8 to 64 bytes",
        "RFC 9810, 5.1.1",
        "error badRequest, badSenderNonce, badRecipientNonce",
        "asn1.gate",
        "test_the_gate_is_told_with_the_ids_of_the_request",
    ),
    (
        "protectionAlg and protection come together",
        "RFC 9810, 5.1.3",
        "error wrongIntegrity",
        "asn1.gate",
        "test_algorithm_and_protection_come_together",
    ),
    (
        "MAC parameters are a SEQUENCE of theirs",
        "RFC 9810, 5.1.3.1",
        "error badDataFormat",
        "asn1.gate",
        "test_the_message_that_crashes_unpatched_libraries_gets_an_error",
    ),
    (
        "a MAC costs no more than `MacLimits`",
        "RFC 9481, 6.1",
        "error badAlg",
        "context.protection",
        "test_dear_macs_are_refused_before_they_are_computed",
    ),
    (
        "protection by an algorithm that is known, RSA within bounds",
        "RFC 9481, 3",
        "error badAlg",
        "context.protection",
        "test_a_small_rsa_key_is_bad_alg",
    ),
    (
        "the protection verifies",
        "RFC 9483, 3.5",
        "error badMessageCheck",
        "context.protection",
        "test_a_protection_with_one_bit_flipped_is_a_bad_check",
    ),
    (
        "unknown reference, wrong secret, wrong MAC: the same answer after the same work",
        "RFC 9483, 3.5",
        "error badMessageCheck",
        "context.protection",
        "test_an_unknown_reference_and_a_wrong_secret_look_the_same",
    ),
    (
        "sender is the signer's subject, senderKID its subjectKeyIdentifier",
        "RFC 9483, 3.1",
        "error badMessageCheck",
        "context.protection",
        "test_sender_and_sender_kid_of_a_signer_are_compared",
    ),
    (
        "the signer's path leads to an anchor and is valid now",
        "RFC 9483, 3.5",
        "error signerNotTrusted",
        "context.certificates",
        "test_an_expired_signer_is_not_trusted",
    ),
    (
        "a request sent again gets the same bytes",
        "RFC 9810, 5.1.1",
        "the first answer",
        "server.responder",
        "test_the_same_request_gets_the_same_answer_from_any_worker",
    ),
    (
        "an answer to a MAC has this MAC, its parameters and salt, one to a signature is signed",
        "RFC 9483, 3.2",
        "-",
        "server.responder",
        "test_every_operation_is_answered_to_the_letter",
    ),
    (
        "pvno, transactionID, recipNonce, recipient repeat the request's; nonce, time, extraCerts are ours",
        "RFC 9483, 3.1",
        "-",
        "server.responder",
        "test_every_operation_is_answered_to_the_letter",
    ),
    (
        "a refusal has one failInfo and words, no certificate, no caPubs",
        "RFC 9810, 5.2.3",
        "-",
        "server.turn",
        "test_every_refusal_is_answered_to_the_letter",
    ),
    (
        "implicitConfirm is echoed exactly when granted, else confirmWaitTime",
        "RFC 9810, 5.1.1.1",
        "-",
        "server.enrollment",
        "test_implicit_confirmation_is_echoed_exactly_when_granted",
    ),
    (
        "caPubs come in an ip under a MAC only",
        "RFC 9810, 5.3.2",
        "-",
        "server.enrollment",
        "test_ca_pubs_come_in_an_ip_under_a_mac_only",
    ),
    (
        "what differs from the request is said, with grantedWithMods",
        "RFC 9810, 5.2.3",
        "-",
        "server.profile",
        "test_what_changed_is_told_in_words_with_granted_with_mods",
    ),
    (
        "an extension that is not issued",
        "RFC 9810, 5.2.3",
        "ip, cp, kup unacceptedExtension",
        "server.profile",
        "test_an_extension_that_nobody_knows_is_not_accepted",
    ),
    (
        "a certProfile that is not known",
        "RFC 9810, 5.1.1.4",
        "ip, cp, kup badCertTemplate",
        "server.ca",
        "test_an_unknown_cert_profile_is_rejected_and_a_known_one_chosen",
    ),
    (
        "an issuer in the template that is not ours",
        "RFC 9483, 4.1.1",
        "ip, cp, kup badCertTemplate",
        "server.ca",
        "test_an_issuer_in_the_template_is_ours_or_none",
    ),
    (
        "a key update keeps the names",
        "RFC 9483, 4.1.3",
        "kup badCertTemplate",
        "server.ca",
        "test_an_update_keeps_the_names",
    ),
    (
        "an rr for what is not this CA's",
        "RFC 9483, 4.2",
        "rp badCertId",
        "server.ca",
        "test_a_broken_rule_is_told_with_its_fail_info",
    ),
    (
        "a certConf that rejects, or is empty",
        "RFC 9810, 5.3.18",
        "pkiConf; the certificate is revoked",
        "server.enrollment",
        "test_an_empty_cert_conf_revokes",
    ),
    (
        "no certConf in confirmWaitTime",
        "RFC 9483, 4.1.1",
        "the certificate is revoked",
        "server.responder",
        "test_what_is_not_confirmed_in_time_is_revoked",
    ),
    (
        "an error message ends the transaction",
        "RFC 9483, 3.6.4",
        "pkiConf",
        "server.responder",
        "test_an_error_of_the_requester_takes_the_certificate_back",
    ),
    (
        "each of several requests waits on its own",
        "RFC 9810, 5.3.22",
        "ip, cp",
        "server.enrollment",
        "test_what_is_decided_is_answered_and_confirmed_while_the_rest_is_waited_for",
    ),
    (
        "a pollReq for a certReqId that does not wait",
        "RFC 9810, 5.3.22",
        "error badRequest",
        "server.delay",
        "test_any_request_may_wait_and_any_worker_has_its_answer",
    ),
    (
        "an infoType that is not known, alone",
        "RFC 9483, 4.3",
        "error badRequest",
        "server.information",
        "test_an_unknown_info_type_is_refused_alone",
    ),
    (
        "a bad header or protection inside a batch",
        "RFC 9483, 5.2.2.2",
        "error for the whole",
        "server.nested",
        "test_a_bad_inner_header_spoils_the_batch",
    ),
    (
        "a nested message inside a nested one",
        "RFC 9483, 5.2.2",
        "error badRequest",
        "server.nested",
        "test_nested_is_not_nested_again",
    ),
    (
        "HTTP: another method than POST",
        "RFC 9811, 3.1",
        "405, with Allow",
        "server.app",
        "test_other_methods_get_405_and_are_told_which_is_allowed",
    ),
    (
        "HTTP: another content type than application/pkixcmp",
        "RFC 9811, 3.1",
        "415",
        "server.app",
        "test_another_content_type_gets_415",
    ),
    (
        "HTTP: a body that is too long",
        "RFC 9811, 3.1",
        "413",
        "server.app",
        "test_a_body_that_says_it_is_too_long_is_not_read",
    ),
    (
        "HTTP: a PKIMessage, also an error message",
        "RFC 9811, 3.3",
        "200",
        "server.app",
        "test_a_message_gets_the_responders_bytes_with_200",
    ),
    (
        "HTTP: an announcement",
        "RFC 9811, 3.5",
        "201 or 202 without a body, 4xx or 5xx",
        "server.announcements",
        "test_each_kind_has_its_hook",
    ),
]


def known_tests() -> set[str]:
    """Names of all tests there are."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    return found


def passes(rule: Rule) -> str:
    """The test in which a message passes this rule."""
    return PASSES.get(rule.name) or _BY_BODY.get(rule.bodies) or _BY_STAGE.get(rule.stage) or _WELL


def _name(value: BodyType | FailureInfo) -> str:
    if isinstance(value, BodyType):
        return value.text
    first, *rest = value.name.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


def outcome(rule: str, profile: str) -> str:
    """What the message that breaks a rule gets under a profile."""
    case, _ = CASES[rule]
    body, failure = said(case(fresh_world(profile=PROFILES[profile])))
    return f"{_name(body)} {_name(failure)}" if failure is not None else _name(body)


def _bodies(rule: Rule) -> str:
    return ", ".join(_name(each) for each in sorted(rule.bodies)) if len(rule.bodies) < 8 else "all"


def table() -> str:
    """All of docs/rules.md."""
    lines = [
        "# Rules",
        "",
        "What the server asks of messages, written by `python -m tests.server.rules_table` from the rules and from what",
        "their tests get. The rules with a name are switched by it (`profile_named`, `ValidationProfile.but`).",
        "",
        "The columns of the profiles say what a message gets that breaks the rule, in bold where the rule is on; where it is",
        "off, another one may stop the message. The message that breaks a rule is in `tests/server/test_rules.py`, under the",
        "rule's name; the last column is a test in which messages pass it.",
        "",
    ]
    for stage, title in STAGES.items():
        rules = [rule for rule in RULES.values() if rule.stage is stage]
        lines += [
            f"## {title}",
            "",
            "| rule | what it asks | of | source | failInfo | rfc9810 | strict | lenient | passed in |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for rule in rules:
            found = [outcome(rule.name, profile) for profile in PROFILES]
            marked = [
                f"**{text}**" if profile in rule.profiles else text
                for profile, text in zip(PROFILES, found, strict=True)
            ]
            cells = [
                f"`{rule.name}`",
                rule.text,
                _bodies(rule),
                rule.source,
                _name(rule.failure),
                *marked,
                f"`{passes(rule)}`",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [
        "## What cannot be switched off",
        "",
        "| what | source | answer | where | test |",
        "|---|---|---|---|---|",
        *(f"| {what} | {source} | {answer} | `{where}` | `{test}` |" for what, source, answer, where, test in FIXED),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(table(), encoding="utf-8")
