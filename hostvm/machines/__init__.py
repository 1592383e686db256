"""One machine's life: create, start, stop, remove, observe."""
