import os
import stat

import pytest

from hostvm.errors import SshError
from hostvm.ssh.keys import authorized_keys_line, fingerprint, make_keys


def test_two_pairs_made_once(tmp_path):
    folder = tmp_path / "keys"
    keys = make_keys(folder)
    assert keys.client_public != keys.host_public
    assert keys.client_public.startswith("ssh-ed25519 AAAA")
    assert authorized_keys_line(keys.client_public) == keys.client_public + " hostvm\n"
    assert make_keys(folder) == keys
    assert sorted(path.name for path in folder.iterdir()) == ["client_ed25519", "host_ed25519"]


@pytest.mark.skipif(os.name == "nt", reason="modes are a POSIX matter")
def test_private_to_the_user(tmp_path):
    keys = make_keys(tmp_path / "keys")
    assert stat.S_IMODE(keys.client_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.host_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.host_key.parent.stat().st_mode) == 0o700


def test_openssh_format(tmp_path):
    keys = make_keys(tmp_path)
    assert keys.client_key.read_bytes().startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")


def test_damaged_key(tmp_path):
    (tmp_path / "client_ed25519").write_text("nonsense")
    with pytest.raises(SshError) as caught:
        make_keys(tmp_path)
    assert str(tmp_path / "client_ed25519") in caught.value.brief
    assert "rm " in caught.value.resolution


def test_fingerprint_is_as_openssh_prints_it():
    public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINL/bvmKisLZXbEAeexfKRxSmoV9yVQGGINAWd5WvW3E"
    assert fingerprint(public) == "SHA256:qC49fAyfxDl9nXSDwZCBE3I1Jw7J/AbWoDHfyU4rls8"
