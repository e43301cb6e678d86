"""The settings of a registration authority, and what they come to: ``open_ra``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from opensslcmp.client.context import Context
from opensslcmp.client.failover import Retry
from opensslcmp.context.certificates import Trust
from opensslcmp.context.keys import PrivateKey
from opensslcmp.credentials import SharedSecret, Signer
from opensslcmp.server.audit import AuditSettings
from opensslcmp.server.authority import Authority
from opensslcmp.server.events import Observer
from opensslcmp.server.inventory import CSVInventory, HTTPInventory, Inventory, SQLInventory
from opensslcmp.server.pkcs10 import PKCS10Authority, by_command, by_http
from opensslcmp.server.ra import RA
from opensslcmp.server.relay import Relay
from opensslcmp.server.responder import Responder
from opensslcmp.server.secret_book import SecretBook
from opensslcmp.server.server_settings import ServerSettings
from opensslcmp.server.settings import (
    AuthorisationSettings,
    CertificateFile,
    KeyPlace,
    LimitSettings,
    RuleSettings,
)
from opensslcmp.server.store import Store
from opensslcmp.server.stores import StoreSettings, open_store
from opensslcmp.server.tables import WrongValue, load_tables, refuse
from opensslcmp.server.throttle import Throttle
from opensslcmp.server.transfer_settings import TransferSettings
from opensslcmp.server.upstream import Upstream
from opensslcmp.server.vault import Vault
from opensslcmp.transport import scheme_of

__all__ = ["InventorySettings", "OpenRA", "RAConfiguration", "RASettings", "open_ra", "open_secrets"]

_REPLACING = frozenset(("replace", "pkcs10"))


@dataclass(frozen=True, kw_only=True, slots=True)
class RASettings:
    """``[ra]``: where the CA is, who we are to it, and what is done with messages.

    Attributes:
        mode: ``replace`` asks the CA under our own protection; ``forward`` passes messages on as they are, ``nest`` with our
            protection around them, ``batch`` several in one; ``pkcs10`` is for a CA that knows only PKCS#10.
        upstream: URLs of the CA, the one to ask first first.
        certificate: PEM file: our certificate and its chain. It signs answers to entities too.
        key: its private key: a path or a URI of a provider.
        key_password_file: its first line opens ``key``.
        reference, secret_file: a shared secret with the CA, in place of the certificate towards it; the secret is the first
            line of the file.
        trusted: files of certificates whose holders' signatures are believed, the CA's first.
        ra_verified: ``changed`` keeps the entity's proof of possession where it can, ``always`` vouches for all.
        original_message: beside raVerified, send what the entity sent in origPKIMessage.
        certconf: ``forward`` the confirmation of the entity, or confirm by our ``own``.
        implicit_confirm: grant implicit confirmation to who asks for it.
        confirm_wait_seconds: how long an entity may take to confirm; less than the CA waits.
        wait_seconds: how long an entity may poll.
        check_after_seconds: when entities are to poll; absent: when the CA wants to be asked.
        retention_seconds: how long closed transactions are remembered.
        cache_seconds: how long answers to genm are good; 0 forwards each genm.
        connect_timeout_seconds, message_timeout_seconds: towards the CA.
        batch_seconds, batch_messages: how long a batch waits for more messages, and for how many.
        command: of ``pkcs10``: program and arguments.
        url: of ``pkcs10``: a service in place of the command.
        database: file of what is kept here, where [store] names no other.
    """

    mode: Literal["replace", "forward", "nest", "batch", "pkcs10"] = "replace"
    upstream: tuple[str, ...] = ()
    certificate: CertificateFile
    key: KeyPlace
    key_password_file: Path | None = None
    reference: str | None = None
    secret_file: Path | None = None
    trusted: tuple[CertificateFile, ...]
    ra_verified: Literal["changed", "always"] = "changed"
    original_message: bool = True
    certconf: Literal["forward", "own"] = "forward"
    implicit_confirm: bool = True
    confirm_wait_seconds: float = 300.0
    wait_seconds: float = 7 * 86400.0
    check_after_seconds: int | None = None
    retention_seconds: float = 86400.0
    cache_seconds: float = 300.0
    connect_timeout_seconds: float = 10.0
    message_timeout_seconds: float = 30.0
    batch_seconds: float = 0.05
    batch_messages: int = 16
    command: tuple[str, ...] = ()
    url: str | None = None
    database: Path = Path("ra.db")

    def __post_init__(self) -> None:
        wrong = []
        if self.mode == "pkcs10" and bool(self.command) == (self.url is not None):
            wrong.append(WrongValue("is needed, or url, and not both", "command"))
        if self.mode != "pkcs10" and not self.upstream:
            wrong.append(WrongValue("is needed", "upstream"))
        for each in self.upstream:
            if ":" not in each or scheme_of(each) is None:
                wrong.append(WrongValue("has what is no URL that there is a transport for", "upstream"))
        if (self.reference is None) != (self.secret_file is None):
            wrong.append(WrongValue("is needed beside the other", "reference" if self.secret_file else "secret_file"))
        if self.reference is not None and self.mode in {"nest", "batch"}:
            wrong.append(WrongValue("is for mode replace: added protection is a signature", "reference"))
        if not self.trusted:
            wrong.append(WrongValue("is empty", "trusted"))
        for name in (
            "confirm_wait_seconds",
            "wait_seconds",
            "retention_seconds",
            "connect_timeout_seconds",
            "message_timeout_seconds",
            "batch_seconds",
            "batch_messages",
        ):
            if getattr(self, name) <= 0:
                wrong.append(WrongValue("is not positive", name))
        if self.check_after_seconds is not None and self.check_after_seconds < 1:
            wrong.append(WrongValue("is not positive", "check_after_seconds"))
        if self.cache_seconds < 0:
            wrong.append(WrongValue("is negative", "cache_seconds"))
        refuse(wrong)


@dataclass(frozen=True, kw_only=True, slots=True)
class InventorySettings:
    """``[inventory]``: which device gets what. One of ``csv``, ``query`` with ``database``, and ``url``.

    Attributes:
        csv: a file of rows.
        database: URL of SQLAlchemy.
        query: that gives rows.
        url: of a service that is asked by POST.
        token_file: its first line is sent to the service as bearer token.
        timeout_seconds: for the database or the service.
    """

    csv: Path | None = None
    database: str | None = field(default=None, repr=False)
    query: str | None = None
    url: str | None = None
    token_file: Path | None = None
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        wrong = []
        if sum(each is not None for each in (self.csv, self.query, self.url)) > 1:
            wrong.append(WrongValue("is given beside another: one of csv, query and url", "csv" if self.csv else "url"))
        if (self.database is None) != (self.query is None):
            wrong.append(WrongValue("is needed beside the other", "query" if self.database else "database"))
        if self.token_file is not None and self.url is None:
            wrong.append(WrongValue("is for a service by url", "token_file"))
        if self.timeout_seconds <= 0:
            wrong.append(WrongValue("is not positive", "timeout_seconds"))
        refuse(wrong)

    def open(self) -> Inventory | None:
        """The inventory; None when nothing names one.

        Raises:
            ImportError, OSError, ValueError: it does not open.
        """
        if self.csv is not None:
            return CSVInventory(self.csv)
        if self.query is not None and self.database is not None:
            return SQLInventory(self.database, self.query, timeout_seconds=self.timeout_seconds)
        if self.url is not None:
            token = _first_line(self.token_file)
            headers = {} if token is None else {"Authorization": f"Bearer {token.decode()}"}
            return HTTPInventory(self.url, timeout_seconds=self.timeout_seconds, headers=headers)
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class RAConfiguration:
    """All of a registration authority's file.

    Attributes:
        ra: the CA upstream, and what is done with messages.
        inventory: which device gets what.
        server: how it is reached.
        authorisation: who may ask.
        rules: which rules of the protocol are checked.
        limits: what may be asked of the server.
        store: where everything is kept; ``database`` of [ra] when it names no URL.
        audit: where the audit trail goes.
        transfers: ways beside HTTP by which messages come.
    """

    ra: RASettings
    inventory: InventorySettings = InventorySettings()
    server: ServerSettings = ServerSettings()  # noqa: RUF009 -- immutable
    authorisation: AuthorisationSettings = AuthorisationSettings()  # noqa: RUF009 -- immutable
    rules: RuleSettings = RuleSettings()  # noqa: RUF009 -- immutable
    limits: LimitSettings = LimitSettings()  # noqa: RUF009 -- immutable
    store: StoreSettings = StoreSettings()  # noqa: RUF009 -- immutable
    audit: AuditSettings = AuditSettings()  # noqa: RUF009 -- immutable
    transfers: TransferSettings = TransferSettings()  # noqa: RUF009 -- immutable

    @classmethod
    def load(cls, path: Path) -> RAConfiguration:
        """The settings in a file.

        Raises:
            SettingsError: it is no TOML, or has keys or values that are not known; the text names file, line and key of
                each.
            OSError: it cannot be read.
        """
        return load_tables(path, cls)

    def open_store(self, directory: Path) -> Store:
        """What is kept. Close it when done.

        Raises:
            ImportError, ConnectionError, OSError, ValueError: it does not open.
        """
        if self.store.url is not None:
            return open_store(self.store, directory)
        from opensslcmp.server.sqlstore import SQLStore

        return SQLStore(directory / self.ra.database)


@dataclass(frozen=True, slots=True)
class OpenRA:
    """A registration authority that answers messages.

    Attributes:
        handler: answers them: a Responder, or a Relay.
        store: what is kept; None when nothing is.
    """

    handler: Responder | Relay
    store: Store | None
    closing: tuple[Callable[[], None], ...] = ()

    def sweep(self) -> None:
        """End what is overdue."""
        if isinstance(self.handler, Responder):
            self.handler.sweep()

    def close(self) -> None:
        """Close connections and store."""
        for close in self.closing:
            close()


def open_secrets(store: Store, directory: Path, *, make: bool = False) -> SecretBook | None:
    """The shared secrets of entities: in the store, sealed under ``vault.key`` of the directory; None without that file.

    Args:
        make: the file, when it is not there.

    Raises:
        OSError, ValueError: the file cannot be used.
    """
    path = directory / "vault.key"
    if not path.exists():
        return SecretBook(store, Vault.create(path)) if make else None
    return SecretBook(store, Vault(path))


def open_ra(
    configuration: RAConfiguration,
    directory: Path,
    *,
    observe: Observer | None = None,
    is_open: Callable[[], bool] | None = None,
    clock: Callable[[], float] = time.time,
) -> OpenRA:
    """A registration authority, as its settings say. Close it when done.

    Args:
        directory: where its files are.
        observe, is_open, clock: as for ``Responder``.

    Raises:
        ImportError, OSError, OpenSSLError, ValueError: a file, key, certificate or the store does not open.
    """
    said, who = configuration.ra, configuration.authorisation
    own, *chain = said.certificate.certificates
    signer = Signer(own, PrivateKey.load(said.key, _first_line(said.key_password_file)), chain)
    trusted = [each for file in said.trusted for each in file.certificates]
    anchors = [each for file in (*who.anchors, *who.ra_anchors) for each in file.certificates]
    trust = Trust([*trusted, *anchors], untrusted=chain)
    inventory = configuration.inventory.open()
    store = configuration.open_store(directory)
    closing: list[Callable[[], None]] = [store.close]
    if isinstance(inventory, SQLInventory):
        closing.append(inventory.close)
    try:
        book = open_secrets(store, directory)
        secrets = None if book is None else book.find
        authority: Authority
        if said.mode == "pkcs10":
            ask = by_http(said.url) if said.url is not None else by_command(said.command)
            authority = PKCS10Authority(ask, trusted[0], trusted[1:], inventory=inventory)
        else:
            context = _context(said, signer, trusted, chain)
            if said.mode not in _REPLACING:
                relay = Relay(
                    Upstream(context),
                    signer,
                    mode=said.mode,  # type: ignore[arg-type] # the others are replaced
                    secrets=None if said.mode == "forward" else secrets,
                    trust=None if said.mode == "forward" else trust,
                    inventory=inventory,
                    limits=configuration.limits.gate,
                    mac_limits=configuration.limits.mac,
                    batch_seconds=said.batch_seconds,
                    batch_messages=said.batch_messages,
                    clock=clock,
                )
                return OpenRA(relay, store, (relay.close, *closing))
            authority = RA(
                context,
                store,
                inventory=inventory,
                certificate=trusted[0],
                ra_verified=said.ra_verified,
                original=said.original_message,
                certconf=said.certconf,
                check_after_seconds=said.check_after_seconds,
                cache_seconds=said.cache_seconds,
                keep_seconds=said.wait_seconds + said.retention_seconds,
                clock=clock,
            )
            closing.insert(0, authority.close)
        responder = Responder(
            authority,
            store,
            signer,
            secrets=secrets,
            rotating=None if book is None else book.rotating,
            trust=trust,
            profile=configuration.limits.of(configuration.rules),
            policy=None if who.is_open else who,
            registration_authorities=[each.sha256 for each in who.registration_authorities],
            ra_anchors=[each for file in who.ra_anchors for each in file.certificates],
            limits=configuration.limits.gate,
            mac_limits=configuration.limits.mac,
            throttle=Throttle(configuration.limits.rate),
            implicit_confirm=said.implicit_confirm,
            confirm_wait_seconds=said.confirm_wait_seconds,
            wait_seconds=said.wait_seconds,
            retention_seconds=said.retention_seconds,
            observe=observe,
            is_open=is_open,
            clock=clock,
        )
    except BaseException:
        for close in closing:
            close()
        raise
    return OpenRA(responder, store, tuple(closing))


def _context(said: RASettings, signer: Signer, trusted: list[bytes], chain: list[bytes]) -> Context:
    credential: Signer | SharedSecret = signer
    if said.reference is not None:
        credential = SharedSecret(said.reference, _first_line(said.secret_file) or b"")
    return Context(
        servers=said.upstream,
        retry=Retry(attempts=2 * len(said.upstream)) if len(said.upstream) > 1 else None,
        credential=credential,
        trusted=trusted,
        untrusted=chain,
        connect_timeout_seconds=said.connect_timeout_seconds,
        message_timeout_seconds=said.message_timeout_seconds,
        total_timeout_seconds=max(60.0, 4 * said.message_timeout_seconds),
        max_wait_seconds=said.wait_seconds,
    )


def _first_line(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes().partition(b"\n")[0].rstrip(b"\r")
