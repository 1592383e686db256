"""Podman in the guest."""
