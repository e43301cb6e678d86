"""Fixtures of the client's tests; ``client_peers`` has them."""

from tests.client.client_peers import ca, device, files, issued, mac_session, mock, server_entity, signer_session

__all__ = ["ca", "device", "files", "issued", "mac_session", "mock", "server_entity", "signer_session"]
