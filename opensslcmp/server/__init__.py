"""The server: an answer to one message. ``Responder.handle`` is all of it; ``CA`` is an authority to put behind it.

``open_responder(directory)`` gives a Responder for the CA in a directory. The store on SQLite needs the ``server`` extra.
"""

from opensslcmp.server.authority import (
    Authority,
    CertificateRequest,
    InfoRequest,
    Issued,
    Pending,
    Publisher,
    RevocationRequest,
)
from opensslcmp.server.ca import CA, open_responder
from opensslcmp.server.cross import CrossProfile
from opensslcmp.server.inventory import Grant, Inventory
from opensslcmp.server.knowledge import Knowledge, RootUpdate
from opensslcmp.server.live import LiveResponder
from opensslcmp.server.memory import MemoryStore
from opensslcmp.server.names import NamePattern
from opensslcmp.server.peer import Peer
from opensslcmp.server.policy import Authorisation, LabelPolicy, Policy, Question
from opensslcmp.server.profile import IssuingProfile
from opensslcmp.server.ra import RA
from opensslcmp.server.responder import Responder
from opensslcmp.server.rules import PROFILES, RULES, Rule, Stage, ValidationProfile, profile_named
from opensslcmp.server.secret_book import FoundSecret, SecretBook
from opensslcmp.server.settings import Settings
from opensslcmp.server.store import Store

__all__ = [
    "CA",
    "PROFILES",
    "RA",
    "RULES",
    "Authorisation",
    "Authority",
    "CertificateRequest",
    "CrossProfile",
    "FoundSecret",
    "Grant",
    "InfoRequest",
    "Inventory",
    "Issued",
    "IssuingProfile",
    "Knowledge",
    "LabelPolicy",
    "LiveResponder",
    "MemoryStore",
    "NamePattern",
    "Peer",
    "Pending",
    "Policy",
    "Publisher",
    "Question",
    "Responder",
    "RevocationRequest",
    "RootUpdate",
    "Rule",
    "SecretBook",
    "Settings",
    "Stage",
    "Store",
    "ValidationProfile",
    "open_responder",
    "profile_named",
]
