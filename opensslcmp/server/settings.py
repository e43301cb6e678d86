"""What ``opensslcmp.toml`` says, in the CA's directory or wherever ``--config`` names it: the whole server, in tables.

Each table is a dataclass here or beside what it configures; ``tables`` tells how one is added. Certificates that are issued
carry ``crl_url`` and ``issuer_url``, so these are there before the first one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from opensslcmp.server.audit import AuditSettings
from opensslcmp.server.metrics import MetricsSettings
from opensslcmp.server.server_settings import ServerSettings
from opensslcmp.server.tables import load_tables

__all__ = ["ServerSettings", "Settings"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of a CA and its server.

    Attributes:
        crl_url: where relying parties get the CRL; goes into cRLDistributionPoints. None: certificates do not say.
        issuer_url: where they get the CA's certificate; goes into authorityInfoAccess.
        server: how it is reached.
        audit: where the audit trail goes.
        metrics: whether and where there are metrics.

    Raises:
        ValueError: a URL that is none, or that a certificate cannot carry.

    Source: RFC 5280, 4.2.1.13 and 4.2.2.1.
    """

    crl_url: str | None = None
    issuer_url: str | None = None
    server: ServerSettings = ServerSettings()  # noqa: RUF009 -- immutable
    audit: AuditSettings = AuditSettings()  # noqa: RUF009 -- immutable
    metrics: MetricsSettings = MetricsSettings()  # noqa: RUF009 -- immutable

    def __post_init__(self) -> None:
        for name in ("crl_url", "issuer_url"):
            url = getattr(self, name)
            if url is not None:
                _check_url(name, url)

    @property
    def crl_path(self) -> str | None:
        """The path of ``crl_url``, at which a server of this CA answers too."""
        return urlsplit(self.crl_url).path if self.crl_url else None

    @classmethod
    def load(cls, path: Path) -> Settings:
        """The settings in a file; the default ones when it is not there.

        Raises:
            SettingsError: it is no TOML, or has keys or values that are not known; the text names file, line and key of
                each.
        """
        try:
            return load_tables(path, cls)
        except FileNotFoundError:
            return cls()

    def text(self) -> str:
        """The URLs as TOML; empty when there are none."""
        values = {name: getattr(self, name) for name in ("crl_url", "issuer_url")}
        return "".join(f'{name} = "{value}"\n' for name, value in values.items() if value is not None)


def _check_url(name: str, url: object) -> None:
    # Nothing that TOML or an IA5String would need to have escaped.
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or set(url) & set(' "\\<>^`{|}'):
        raise ValueError(f"{name} is not a URL")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https", "ldap", "ldaps"} or not parts.hostname:
        raise ValueError(f"{name} is not a URL such as http://ca.example/crl")
    if parts.path in {"", "/"} or parts.path.startswith("/.well-known/cmp"):
        raise ValueError(f"{name} has no path of its own, such as http://ca.example/crl")
