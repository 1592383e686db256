"""Folders of this computer inside the guest: which, by what way, and what keeps them there."""
