"""Container names on this computer: http://web.hostvm.localhost:7080/ reaches a container without `-p`."""
