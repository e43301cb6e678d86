"""What a CA's directory says about itself in ``opensslcmp.toml``, beside its key and its database.

Certificates that are issued carry what stands here, so it is there before the first one.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of a CA.

    Attributes:
        crl_url: where relying parties get the CRL; goes into cRLDistributionPoints. None: certificates do not say.
        issuer_url: where they get the CA's certificate; goes into authorityInfoAccess.

    Raises:
        ValueError: a URL that is none, or that a certificate cannot carry.

    Source: RFC 5280, 4.2.1.13 and 4.2.2.1.
    """

    crl_url: str | None = None
    issuer_url: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            url = getattr(self, field.name)
            if url is not None:
                _check_url(field.name, url)

    @property
    def crl_path(self) -> str | None:
        """The path of ``crl_url``, at which a server of this CA answers too."""
        return urlsplit(self.crl_url).path if self.crl_url else None

    @classmethod
    def load(cls, path: Path) -> Settings:
        """The settings in a file; the default ones when it is not there.

        Raises:
            ValueError: it is no TOML, or has a key or a value that is not known; the text names the file and the line
                or the key.
        """
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if unknown := found.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"{path}: no such setting: {', '.join(sorted(unknown))}")
        try:
            return cls(**found)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def text(self) -> str:
        """As TOML; empty when nothing is set."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
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
