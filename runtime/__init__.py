"""Container engines inside a guest, seen through hostvm's Guest."""
