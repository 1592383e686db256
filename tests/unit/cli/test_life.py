"""Settings that are typed at `create` and `start`."""

from __future__ import annotations

import pytest

from cli.commands.life import wanted_settings
from cli.manage import build_parser
from hostvm.shares.model import default_mounts


@pytest.mark.parametrize(
    ("template", "shared"),
    [("ci", set()), ("low-memory", {"home"}), ("{own}", {"/kept"}), ("", {"home"})],
    ids=["shares nothing", "says nothing of shares", "has one of its own", "none"],
)
def test_a_folder_is_added_to_what_the_template_shares(tmp_path, template, shared):
    (tmp_path / "own.yaml").write_text(f"mounts: ['{tmp_path}:/kept:ro']\n")
    words = ["start", "--mount", f"{tmp_path}:/added"]
    if template:
        words += ["--template", template.format(own=tmp_path / "own.yaml")]
    mounts = wanted_settings(build_parser("start").parse_args(words))["mounts"]
    (home,) = default_mounts()
    assert {one.target for one in mounts} == {"/added", *(home.target if one == "home" else one for one in shared)}
