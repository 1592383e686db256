"""Paths in settings that begin with a home folder which this computer does not know."""

from __future__ import annotations

import sys

import pytest

from cli.main import main
from hostvm.errors import SpecError
from hostvm.paths import MachinePaths
from hostvm.qemu_binary import find_qemu
from hostvm.spec import parse_text

NOBODYS = "~nobody-here/x"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="every name has a home there")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (f"ca: {NOBODYS}", "ca:"),
        (f"registries: {{ca: {{r.example: {NOBODYS}}}}}", "registries.ca"),
        (f"provision: [{{file: {NOBODYS}}}]", "provision[0].file:"),
    ],
)
def test_they_are_told_by_their_place(text, path):
    with pytest.raises(SpecError) as caught:
        parse_text(text, "machine.yaml")
    assert path in caught.value.details
    assert "absolute path" in caught.value.details


def test_a_machine_that_names_one_does_not_hide_the_others(capsys):
    for name, text in (("bad", f"ca: {NOBODYS}"), ("good", "")):
        paths = MachinePaths.of(name)
        paths.folder.mkdir(parents=True)
        paths.spec.write_text(text)
    assert main(["ls"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["NAME", "bad", "good"]


def test_a_template_of_nobodys(capsys):
    assert main(["create", "--template", NOBODYS]) == SpecError.exit_status
    assert f"the template {NOBODYS} cannot be read" in capsys.readouterr().err


def test_a_qemu_of_nobodys(monkeypatch):
    monkeypatch.setenv("HOSTVM_QEMU", NOBODYS)
    with pytest.raises(Exception, match="HOSTVM_QEMU"):
        find_qemu("amd64")
