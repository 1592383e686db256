"""Driving QEMU through libvirt: domain XML, connections, a machine's life. `libvirt` is imported only when used."""
