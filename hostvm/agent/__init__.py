"""The background process of one machine: its ssh connection, sockets, forwards and services."""
