"""OpenSSL's CMP engine for Python: certificates by the Certificate Management Protocol (RFC 9810, RFC 9483)."""

from opensslcmp._version import __version__

__all__ = ["__version__"]
