"""The extension of opensslcmp with an OpenSSL of its own. ``opensslcmp`` takes it where it is installed."""

from opensslcmp_binary._version import __version__

__all__ = ["__version__"]
