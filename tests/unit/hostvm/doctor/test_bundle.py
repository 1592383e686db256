from __future__ import annotations

import json
import tarfile

from hostvm.doctor.bundle import _redacted_json, write_bundle
from hostvm.doctor.finding import Finding
from hostvm.doctor.redact import MASK


def test_what_is_masked_in_a_finding_leaves_its_json_whole(tmp_path):
    finding = Finding(
        "computer", "proxy", "fail", 'password: "a", hunter2-XYZ', "export HTTP_PROXY=http://me:hunter2@XYZ@proxy"
    )
    write_bundle(tmp_path / "b.tgz", [finding])
    with tarfile.open(tmp_path / "b.tgz") as tar:
        text = tar.extractfile("hostvm-doctor/doctor.json").read().decode()
    assert "XYZ" not in text
    assert json.loads(text)[0]["name"] == "proxy"


def test_a_state_that_is_no_json_is_masked_as_text():
    assert _redacted_json('{"password": "a, b') == f'{{"password": {MASK}'
    assert json.loads(_redacted_json('{"x": {"password": "a, \\"b"}}')) == {"x": {"password": MASK}}
