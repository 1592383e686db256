"""Changes of single keys leave the rest of the text alone."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hostvm.config.rewrite import remove_value, set_value
from hostvm.errors import SpecError

TEXT = """\
# mine
cpus: 2  # enough
memory: 4GiB
# what I share
mounts:
- /a   # sources
- source: /b
  readonly: true

# network things
ports: {expose: loopback}  # not the LAN
daemon:
  # quieter
  log-opts:
    max-size: 10m
    max-file: "3"
script: |
  one
  two

# the end
"""


@pytest.mark.parametrize(
    ("path", "value", "old", "new"),
    [
        (["cpus"], 3, "cpus: 2  #", "cpus: 3  #"),
        (["memory"], "8GiB", "memory: 4GiB", "memory: 8GiB"),
        (["ports", "expose"], "lan", "{expose: loopback}", "{expose: lan}"),
        (["daemon", "log-opts", "max-size"], "1g", "max-size: 10m", "max-size: 1g"),
        (["daemon", "log-opts", "max-file"], "a: b", '"3"', "'a: b'"),
        (["mounts"], ["/c"], "- /a   # sources\n- source: /b\n  readonly: true\n", "- /c\n"),
        (["mounts"], [], "mounts:\n- /a   # sources\n- source: /b\n  readonly: true\n", "mounts: []\n"),
        (["ports"], {"expose": "lan"}, "ports: {expose: loopback}  # not the LAN\n", "ports:\n  expose: lan\n"),
        (["script"], "x", "script: |\n  one\n  two\n", "script: x\n"),
        (["image"], "docker", "# the end\n", "# the end\nimage: docker\n"),
        (["env", "A"], "1", "# the end\n", "# the end\nenv:\n  A: '1'\n"),
    ],
)
def test_only_the_value_changes(path, value, old, new):
    assert old in TEXT
    assert set_value(TEXT, path, value) == TEXT.replace(old, new)


def test_a_key_goes_and_the_comments_beside_it_stay():
    assert remove_value(TEXT, ["memory"]) == TEXT.replace("memory: 4GiB\n", "")
    assert remove_value(TEXT, ["absent"]) == TEXT
    assert remove_value(TEXT, ["daemon", "debug"]) == TEXT
    assert yaml.safe_load(remove_value(TEXT, ["daemon", "log-opts", "max-size"]))["daemon"] == {
        "log-opts": {"max-file": "3"}
    }


@pytest.mark.parametrize("text", ["", "# only words", "---\n", "{}", "{cpus: 1}", "cpus: 1", "cpus:", "cpus:\n...\n"])
def test_unusual_texts(text):
    before = yaml.safe_load(text) or {}
    assert yaml.safe_load(set_value(text, ["cpus"], 2)) == {**before, "cpus": 2}
    assert yaml.safe_load(set_value(text, ["a", "b"], "c")) == {**before, "a": {"b": "c"}}


def test_an_alias_is_not_changed_at_its_source():
    text = "a: &x 1\ncpus: *x\n"
    assert yaml.safe_load(set_value(text, ["cpus"], 2)) == {"a": 1, "cpus": 2}


def test_what_is_no_mapping_is_not_made_one():
    with pytest.raises(SpecError) as caught:
        set_value("ports: 3\n", ["ports", "expose"], "lan")
    assert caught.value.details == "ports is no mapping"
    with pytest.raises(SpecError):
        set_value("a: [", ["a"], 1)


WORDS = st.text("abcäé -_:#'\"\n", max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=5,
)
MAPPINGS = st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, max_size=3)


@given(MAPPINGS, st.sampled_from(["a", "b", "d"]), VALUES, st.booleans())
def test_the_result_says_what_was_meant_and_comments_stay(values, key, value, flow):
    parts = [
        f"{one}: {json.dumps(inner, ensure_ascii=False)}\n" if flow else yaml.safe_dump({one: inner})
        for one, inner in values.items()
    ]
    text = "".join(f"# comment {number}\n{part}" for number, part in enumerate(parts))
    changed = set_value(text, [key], value)
    assert yaml.safe_load(changed) == {**values, key: value}
    assert changed.count("# comment ") >= len(values)
    gone = remove_value(changed, [key])
    assert (yaml.safe_load(gone) or {}) == {one: values[one] for one in values if one != key}


@pytest.mark.parametrize("text", ["\ufeff# mine\ncpus: 1\nmemory: 1GiB\n", "\ufeffcpus: 1 # mine\nmemory: 1GiB\n"])
def test_the_mark_in_front_that_windows_editors_write_costs_no_comment(text):
    assert set_value(text, ["memory"], "2GiB") == text.replace("1GiB", "2GiB")
    assert set_value(text, ["cpus"], 2) == text.replace("cpus: 1", "cpus: 2")
    assert remove_value(text, ["memory"]) == text.replace("memory: 1GiB\n", "")
