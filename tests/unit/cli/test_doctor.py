"""`hostvm doctor`, as it is typed."""

from __future__ import annotations

import pytest

from cli.commands import doctor
from cli.main import main


@pytest.mark.parametrize(
    ("name", "told"),
    [("there", "it is never overwritten"), ("no folder/b.tgz", "make it: mkdir -p '{}/no folder'")],
)
def test_a_bundle_that_cannot_be_written_is_told_before_anything_is_looked_at(
    tmp_path, capsys, monkeypatch, name, told
):
    (tmp_path / "there").write_text("mine")
    monkeypatch.setattr(doctor, "look_at_computer", lambda: pytest.fail("looked first"))
    assert main(["doctor", "--bundle", str(tmp_path / name)]) == 2
    captured = capsys.readouterr()
    assert told.format(tmp_path) in captured.err
    assert captured.out == ""
