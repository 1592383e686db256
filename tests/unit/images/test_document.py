"""machine.yaml's text: lines, faults of its form, and nothing that takes hostvm down."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from images.document import DocumentError, read_document
from images.faults import Fault, spell

TEXT = """\
# a comment
cpus: 2
mounts:
  - /a
  - source: /b
    target: /c
ports: {expose: lan}
"""


ODD = "a: é\nb: [1, {c: ü}]\nd: |\n  x\n\n  y\ne: 'q'  # why\n\"f g\": &one {h: ~}\ni: *one\n"


@pytest.mark.parametrize("text", [TEXT, ODD, "", "# nothing\n", "a: b: c", "a: [1", "a: *x", "\tx: 1"])
def test_with_and_without_libyaml_it_is_the_same(text, monkeypatch):
    """Marks, too: edits cut the text at them."""

    def look():
        try:
            document = read_document(text)
        except DocumentError as error:
            return str(error)
        return document.values, document.lines, document.faults, list(marks(document.root))

    with_it = look()
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert look() == with_it


def marks(node):
    if node is None:
        return
    yield node.tag, *((mark.line, mark.column, mark.index) for mark in (node.start_mark, node.end_mark))
    inner = node.value if isinstance(node.value, list) else []
    for one in inner:
        for part in one if isinstance(one, tuple) else (one,):
            yield from marks(part)


def test_every_value_knows_its_line():
    document = read_document(TEXT)
    assert document.values == {
        "cpus": 2,
        "mounts": ["/a", {"source": "/b", "target": "/c"}],
        "ports": {"expose": "lan"},
    }
    told = {spell(path): line for path, line in document.lines.items() if path}
    assert told == {
        "cpus": 2,
        "mounts": 3,
        "mounts[0]": 4,
        "mounts[1]": 5,
        "mounts[1].source": 5,
        "mounts[1].target": 6,
        "ports": 7,
        "ports.expose": 7,
    }
    assert document.line(("mounts", 1, "missing")) == 5


def test_a_path_is_spelled_as_people_write_it():
    assert spell(("daemon", "log-opts", "a b", 0)) == "daemon.log-opts.'a b'[0]"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: &x [*x]", Fault(("a", 0), "contains itself")),
        ("a: 1\nb: 2\na: 3", Fault((), "has a twice, in line 1 and in line 3")),
        ("a: !!binary x", Fault(("a",), "has the tag tag:yaml.org,2002:binary, which means nothing here")),
        ("a: !!python/object/apply:os.system [id]", None),
        ("a: .inf", Fault(("a",), ".inf is no number that can be used")),
        ("a: !!int x", Fault(("a",), "x is no int")),
        ("a: 010", Fault(("a",), "010 is 8 or 10, as one reads it; write it without the 0 in front, or in quotes")),
        (
            "a: -0_17",
            Fault(("a",), "-0_17 is -15 or -17, as one reads it; write it without the 0 in front, or in quotes"),
        ),
        (
            "a: &x {b: 1}\nc: {<<: *x}",
            Fault(("c", "<<"), "merges are not read; write out what is meant, or KEY: *NAME"),
        ),
        ("a: {<<: [{b: 1}]}", Fault(("a", "<<"), "merges are not read; write out what is meant, or KEY: *NAME")),
        ("? [1]\n: 2", Fault(("?",), "a key must be a word")),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text, fault):
    document = read_document(text)
    assert document.faults == ([fault] if fault else [])
    assert document.values is not None


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("00", 0), ("007", 7), ("0x10", 16), ("'010'", "010"), ("08", "08"), ("0.5", 0.5)]
)
def test_what_can_be_read_one_way_alone_is(text, value):
    document = read_document(f"a: {text}")
    assert (document.values, document.faults) == ({"a": value}, [])


def test_words_of_yaml_1_1_are_keys_as_they_are_written():
    assert read_document("on: 1\n2020-01-02: 2020-01-02\n<<: 3").values == {
        "on": 1,
        "2020-01-02": "2020-01-02",
        "<<": 3,
    }


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        ("cpus: 2\nmounts: [", "expected the node content", 2),
        ("a: b: c", "mapping values are not allowed", 1),
        ("a: 1\n---\nb: 2", "expected a single document", 2),
        ("a: *x", "undefined alias", 1),
        ("a: \x00", "special characters", None),
        ("[" * 5000, "nested too deeply", None),
        ("a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(8)
        ), "too many values", None),
        ("#" * (1 << 21), "longer than 1 MiB", None),
    ],
)  # fmt: skip
def test_what_is_no_yaml(text, says, line):
    with pytest.raises(DocumentError) as caught:
        read_document(text)
    assert says in caught.value.why
    if line is not None:
        assert caught.value.line == line


@given(st.text(alphabet=st.sampled_from("ab:-[]{}#&*!|>'\"\n \t?%@`,0.\x00é\ud800"), max_size=60))
def test_no_text_makes_it_fail_otherwise(text):
    try:
        document = read_document(text)
    except DocumentError:
        return
    for fault in document.faults:
        assert document.line(fault.path) is not None


@pytest.mark.parametrize(
    "number", ["0x" + "f" * 5000, "9" * 5000, "-0x" + "f" * 5000, "0b" + "1" * 65], ids=lambda number: number[:6]
)
def test_a_number_that_nothing_can_take_is_a_fault_in_few_words(number):
    document = read_document(f"cpus: {number}\n")
    assert document.values == {"cpus": None}
    (fault,) = document.faults
    assert fault.path == ("cpus",)
    assert len(fault.why) < 120


@pytest.mark.parametrize("word", ["7:40", "1:30", "190:20:30.15"])
def test_minutes_and_seconds_are_no_number(word):
    assert read_document(f"a: {word}\n").values == {"a": word}


def test_halves_of_a_character_are_put_together():
    text = json.dumps({"env": {"A": "x \U0001f600", "B": "\U0001f480"}})
    assert "\\ud83d" in text
    document = read_document(text)
    assert document.values == {"env": {"A": "x \U0001f600", "B": "\U0001f480"}}
    assert document.faults == []


def test_half_a_character_is_a_fault_and_a_byte_that_is_no_text_is_none():
    document = read_document('a: "\\ud83d"\nb: "/x\\udcff"\n')
    assert document.values == {"a": None, "b": "/x\udcff"}
    assert document.faults == [Fault(("a",), "holds half a character")]
