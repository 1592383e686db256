"""Keys, the one connection, and how programs and sockets of the guest are reached through it."""
