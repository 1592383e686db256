"""containerd in the guest, without another engine over it."""
