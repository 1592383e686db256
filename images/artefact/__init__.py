"""Guest images that travel: signed, as one file or through an OCI registry."""
