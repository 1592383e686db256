"""What `hostvm doctor` looks at: the computer, its hypervisors, each machine. Looks only; never mends by itself."""
