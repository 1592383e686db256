"""OCI registries by their distribution API, over requests: what guest images need of one."""
