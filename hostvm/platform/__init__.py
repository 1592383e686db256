"""What differs between Linux, macOS and Windows, so that nothing else asks which one it is."""
