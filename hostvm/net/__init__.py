"""Names, networks and trust that a guest shares with this computer."""
