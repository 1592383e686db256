"""A machine's registry: its settings on this computer and its files in the guest."""

from __future__ import annotations

import datetime as dt
import errno
import io
import json
import os
import tarfile
import threading
from dataclasses import replace

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from hostvm.agent.service import PortForward, Traffic
from hostvm.errors import AgentError, MachineError
from hostvm.guest import Completed
from hostvm.paths import REGISTRY_CA, REGISTRY_JSON
from runtime.registry import guest as registry_guest
from runtime.registry.certificate import certify, expires_soon
from runtime.registry.files import config, guest_files, mirrored, pack, unmirrored
from runtime.registry.service import RegistryService
from runtime.registry.wanted import Wanted, load_wanted, save_wanted

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
PLAIN = Wanted(on=True, port=5001, secret="s3cret")
LOCKED = replace(PLAIN, user="alice", hashed="$2b$05$x", ca="CA", certificate="CERT", key="KEY")


class FakeHost:
    """Opens every port but those that are `taken`: (host, port) -> errno."""

    def __init__(self, taken=()):
        self.taken = dict(taken)
        self.open = set()
        self.told = []

    def open_port(self, forward):
        if (number := self.taken.get(forward.host)) is not None:
            raise OSError(number, os.strerror(number))
        self.open.add(forward)

    def close_port(self, forward):
        self.open.discard(forward)

    def traffic(self, forward):
        return Traffic()

    def idle(self):
        return 0.0

    def log(self, text):
        self.told.append(text)

    tell = log


def test_settings_come_back_as_they_were_written_and_others_cannot_read_them(tmp_path):
    assert load_wanted(tmp_path) == Wanted()
    save_wanted(tmp_path, LOCKED)
    assert load_wanted(tmp_path) == LOCKED
    assert (tmp_path / REGISTRY_CA).read_text() == "CA"
    if os.name == "posix":
        assert (tmp_path / REGISTRY_JSON).stat().st_mode & 0o777 == 0o600
    save_wanted(tmp_path, PLAIN)
    assert not (tmp_path / REGISTRY_CA).exists()


@pytest.mark.parametrize("text", ["", "[]", '{"port": '])
def test_damaged_settings_are_told_with_what_to_type(tmp_path, text):
    (tmp_path / REGISTRY_JSON).write_text(text)
    with pytest.raises(MachineError, match="are damaged") as caught:
        load_wanted(tmp_path)
    assert caught.value.resolution.endswith(f"rm {tmp_path / REGISTRY_JSON}")


def test_a_setting_of_a_newer_hostvm_is_left_out(tmp_path):
    (tmp_path / REGISTRY_JSON).write_text('{"port": 5002, "colour": "red"}')
    assert load_wanted(tmp_path) == Wanted(port=5002)


def test_a_plain_registry_listens_on_the_guests_loopback_alone():
    assert config(PLAIN) == {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": "/var/lib/hostvm/registry/data"}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:5001", "secret": "s3cret"},
    }
    assert PLAIN.url == "http://localhost:5001"


def test_a_locked_registry_has_its_files_beside_its_configuration():
    files = guest_files(LOCKED)
    found = yaml.safe_load(files["files/config.yml"])
    assert found["auth"] == {"htpasswd": {"realm": "hostvm", "path": "/run/hostvm/registry/htpasswd"}}
    assert found["http"]["tls"] == {
        "certificate": "/run/hostvm/registry/tls.crt",
        "key": "/run/hostvm/registry/tls.key",
    }
    assert files["files/htpasswd"] == b"alice:$2b$05$x\n"
    assert (files["files/tls.crt"], files["files/tls.key"], files["files/ca.crt"]) == (b"CERT", b"KEY", b"CA")
    assert LOCKED.url == "https://localhost:5001"


def test_a_mirror_keeps_its_images_apart():
    found = config(replace(PLAIN, mirror="https://registry.example"))
    assert found["proxy"] == {"remoteurl": "https://registry.example"}
    assert found["storage"]["filesystem"]["rootdirectory"] == "/var/lib/hostvm/registry/mirror"


def test_every_setting_that_the_guest_sees_changes_the_digest():
    changes = [{"port": 1}, {"mirror": "https://x"}, {"secret": "t"}, {"user": "bob"}, {"hashed": "y"}, {"key": "L"}]
    wanted = [LOCKED, *(replace(LOCKED, **change) for change in changes)]
    assert len({guest_files(one)["files/digest"] for one in wanted}) == len(wanted)
    assert guest_files(LOCKED) == guest_files(replace(LOCKED, on=False))


def test_the_guests_files_are_for_root_alone():
    with tarfile.open(fileobj=io.BytesIO(pack(guest_files(LOCKED)))) as tar:
        modes = {member.name: member.mode for member in tar}
        assert json.load(tar.extractfile("files/config.yml")) == config(LOCKED)
    programs = {"service/run", "service/finish", "service/log/run"}
    assert {name for name, mode in modes.items() if mode == 0o700} == programs
    assert {mode for name, mode in modes.items() if name not in programs} == {0o600}


def test_the_mirror_is_asked_before_others_and_once():
    before = {"debug": True, "registry-mirrors": ["https://a.example"]}
    once = mirrored(before, "http://localhost:5000")
    assert once == {"debug": True, "registry-mirrors": ["http://localhost:5000", "https://a.example"]}
    assert mirrored(once, "http://localhost:5000") == once
    assert mirrored({}, "http://x") == {"registry-mirrors": ["http://x"]}


def test_a_mirror_that_is_gone_leaves_the_others_and_is_taken_back_by_name():
    before = {"debug": True}
    assert unmirrored(before, mirrored(before, "http://x")) == {"debug": True, "registry-mirrors": []}
    assert unmirrored(before, before) == before
    others = {"registry-mirrors": ["https://a.example"]}
    assert unmirrored(others, mirrored(others, "http://x")) == others


def test_the_authority_signs_for_localhost_and_its_key_is_nowhere():
    made = certify("ci", NOW)
    authority, certificate = (x509.load_pem_x509_certificate(text.encode()) for text in (made.ca, made.certificate))
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert {str(one) for one in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}
    key = serialization.load_pem_private_key(made.key.encode(), None)
    assert key.public_key() == certificate.public_key() != authority.public_key()
    assert "PRIVATE" not in made.ca + made.certificate
    assert certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= dt.timedelta(days=825)


def test_a_certificate_is_made_anew_before_it_ends():
    certificate = certify("ci", NOW).certificate
    assert not expires_soon(certificate, NOW)
    assert expires_soon(certificate, NOW + dt.timedelta(days=740))


def test_a_port_that_is_taken_here_is_told_and_opened_when_it_is_free(tmp_path):
    save_wanted(tmp_path, PLAIN)
    service, host = RegistryService(tmp_path), FakeHost({"127.0.0.1": errno.EADDRINUSE, "::1": errno.EADDRNOTAVAIL})
    service.start(object(), host)
    assert host.told == [
        f"the registry wants 127.0.0.1:5001 here, which cannot be opened: {os.strerror(errno.EADDRINUSE)}"
    ]
    assert [row["host"] for row in service.describe()["failed"]] == ["127.0.0.1:5001"]
    host.taken = {"::1": errno.EADDRNOTAVAIL}
    service.start(object(), host)
    service.stop()
    forward = PortForward("tcp", "127.0.0.1", 5001, "127.0.0.1", 5001, outside=False)
    assert host.open == {forward}
    assert service.describe()["failed"] == []


def test_a_start_does_nothing_in_the_guest_when_the_port_is_taken_here(tmp_path):
    service, host = RegistryService(tmp_path), FakeHost({"::1": errno.EADDRINUSE})
    service.start(object(), host)  # a guest that no call reaches
    save_wanted(tmp_path, PLAIN)
    with pytest.raises(MachineError) as caught:
        service.ask({"do": "up"})
    assert caught.value.brief == "port 5001 of this computer is taken"
    assert caught.value.resolution == f"hostvm registry start {tmp_path.name} --port 5002"
    assert host.open == set()
    assert not service.in_use()


def test_a_request_without_a_guest_is_refused(tmp_path):
    with pytest.raises(AgentError, match="not reached"):
        RegistryService(tmp_path).ask({"do": "up"})


@pytest.mark.parametrize(("wanted", "used"), [(PLAIN, True), (replace(PLAIN, mirror="https://x"), False)])
def test_a_registry_keeps_the_machine_awake_and_a_mirror_does_not(tmp_path, wanted, used):
    save_wanted(tmp_path, wanted)
    service = RegistryService(tmp_path)
    service.start(object(), FakeHost())
    service.stop()
    assert service.in_use() is used


@pytest.mark.parametrize(
    ("wanted", "said", "full"),
    [
        (PLAIN, "    Avail\n4096\n", True),
        (PLAIN, "    Avail\n1048576\n", False),
        (PLAIN, "", False),
        (replace(PLAIN, on=False), "    Avail\n0\n", False),
    ],
)
def test_a_full_registry_is_named_to_whose_command_failed(tmp_path, wanted, said, full):
    asked = []

    class Guest:
        def run(self, argv, *, timeout):
            asked.append(argv[-1])
            return Completed(0, said.encode(), b"")

    save_wanted(tmp_path, wanted)
    told = RegistryService(tmp_path).why_failed(Guest())
    assert (f"hostvm registry gc {tmp_path.name}" in told) is full
    assert bool(told) is full
    assert asked == ["/var/lib/hostvm/registry/data"] * wanted.on


def test_a_registry_that_says_nothing_is_no_answer(monkeypatch):
    """It would be waited for with the service's lock held."""
    monkeypatch.setattr(registry_guest, "_SILENT_SECONDS", 0.05)

    class Stream:
        def __init__(self):
            self.closed = threading.Event()

        def sendall(self, data):
            assert data.startswith(b"GET /v2/ ")

        def recv(self, size):
            return b"" if self.closed.wait(20) else b"HTTP/"

        def close(self):
            self.closed.set()

    class Guest:
        def open_tcp(self, host, port):
            return Stream()

    assert not registry_guest._answers(Guest(), 5000)
