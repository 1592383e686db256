"""Shared folders by NFS version 3 (RFC 1813): the guest's kernel is the client, this process the server."""
