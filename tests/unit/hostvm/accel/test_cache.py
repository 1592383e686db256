from __future__ import annotations

from hostvm.accel.cache import CACHE_FILE, ProbeCache


def test_a_finding_is_kept(tmp_path):
    ProbeCache(tmp_path / "c").put("k", "broken")
    ProbeCache(tmp_path / "c").put("l", "")
    assert ProbeCache(tmp_path / "c").get("k") == "broken"
    assert ProbeCache(tmp_path / "c").get("l") == ""
    assert ProbeCache(tmp_path / "c").get("m") is None
    assert [path.name for path in (tmp_path / "c").iterdir()] == [CACHE_FILE]


def test_a_damaged_file_is_as_good_as_none(tmp_path):
    for text in ("", "{", "[1]", '{"k": 3}', "\xff"):
        (tmp_path / CACHE_FILE).write_text(text, encoding="latin-1")
        assert ProbeCache(tmp_path).get("k") is None
    ProbeCache(tmp_path).put("k", "")
    assert ProbeCache(tmp_path).get("k") == ""


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    ProbeCache(tmp_path / "file" / "c").put("k", "")
    assert ProbeCache(tmp_path / "file" / "c").get("k") is None


def test_old_findings_go(tmp_path):
    cache = ProbeCache(tmp_path)
    for number in range(40):
        cache.put(str(number), "")
    assert cache.get("0") is None
    assert cache.get("39") == ""
