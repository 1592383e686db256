"""A machine's own registry: docker-registry in the guest, on its data disk, at the same port here and there."""
