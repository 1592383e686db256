"""The JSON Schema and the documentation say what `SETTINGS` says, and what is written fits the schema."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostvm import spec as module
from hostvm.config import schema as made
from hostvm.errors import SpecError
from hostvm.more_disks import Disk
from hostvm.provision import Script
from hostvm.shares.model import Mount
from hostvm.shares.settings import Mounts
from hostvm.sizes import GIB, MIB
from hostvm.spec import (
    ENGINES,
    SETTINGS,
    IdleSettings,
    MachineSpec,
    PortSettings,
    default_spec,
    parse_text,
    render_spec,
)

ROOT = Path(__file__).parents[4]
SHIPPED = ROOT / "hostvm" / "config" / made.SCHEMA_FILE
PAGE = ROOT / "docs" / "configuration.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"


@pytest.fixture(autouse=True)
def small_host(monkeypatch):
    monkeypatch.setattr(module, "host_memory", lambda: 8 * GIB)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 4)


def test_the_shipped_schema_is_the_one_made_anew(request):
    if request.config.getoption("--regenerate"):
        SHIPPED.write_text(made.schema_text(), encoding="utf-8", newline="\n")
    assert made.shipped_schema() == made.schema_text(), "if that is meant: pytest --regenerate"


def test_the_page_lists_every_key(request):
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    if request.config.getoption("--regenerate"):
        table = made.settings_table()
        PAGE.write_text(before + BEGIN + table + END + after, encoding="utf-8", newline="\n")
    assert table == made.settings_table(), "if that is meant: pytest --regenerate"
    assert all(f"| `{setting.key}` |" in table for setting in SETTINGS)


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(made.machine_schema())


SIZES = st.integers(64, 1 << 20).map(lambda size: size * MIB)
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
# Lines of other kinds (U+0085, U+2028) are folded by YAML, so paths with them are not asked for.
PARTS = st.text("abc -_.ä:#'\"", min_size=1, max_size=8).filter(lambda part: part.strip(".") and part == part.strip())
PATHS = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "/x/" + "/".join(parts))
MOUNTS = st.lists(
    st.builds(
        Mount,
        source=PATHS,
        target=PATHS,
        readonly=st.booleans(),
        kind=st.sampled_from(["auto", "9p", "virtiofs", "sftp", "nfs"]),
    ),
    max_size=3,
    unique_by=lambda mount: mount.target,
).map(lambda mounts: Mounts().read(tuple(mounts)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
SPECS = st.builds(
    MachineSpec,
    cpus=st.integers(1, 4),
    memory=st.integers(512, 8192).map(lambda size: size * MIB),
    disk=st.integers(2048, 1 << 20).map(lambda size: size * MIB),
    driver=st.sampled_from(["auto", "qemu", "libvirt"]),
    libvirt_uri=WORDS | st.just(""),
    accel=st.sampled_from(["auto", "kvm", "tcg"]),
    engine=st.sampled_from(ENGINES),
    image=WORDS,
    autostart=st.booleans(),
    idle=st.builds(IdleSettings, st.integers(1, 90_000), st.sampled_from(["suspend", "pause", "stop", "none"])),
    on_panic=st.sampled_from(["restart", "stop"]),
    ports=st.builds(PortSettings, st.sampled_from(["loopback", "lan"])),
    mounts=MOUNTS,
    proxy=st.sampled_from(["host", "none"]),
    ca=st.sampled_from(["host", "none", "/a b.pem"]),
    ssh_agent=st.booleans(),
    names=st.integers(0, 65535),
    emulate=st.sampled_from([("auto",), (), ("arm", "riscv64")]),
    network=st.sampled_from(["auto", "10.9.0.0/24"]).map(lambda subnet: {"subnet": subnet}),
    registries=st.fixed_dictionaries(
        {},
        optional={
            "mirrors": st.just(["https://m.example"]),
            "insecure": st.just(["r:5000"]),
            "ca": st.just({"r:5000": "/ca.pem"}),
            "default": st.just("http://localhost:5000"),
        },
    ),
    daemon=st.dictionaries(WORDS, JSON, max_size=3),
    env=st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True), WORDS, max_size=3),
    provision=st.lists(
        st.builds(Script, script=WORDS.filter(str.strip), mode=st.sampled_from(["system", "user"]))
        | st.builds(Script, file=PATHS, when=st.sampled_from(["boot", "once"])),
        max_size=2,
    ).map(tuple),
    disks=st.lists(
        st.builds(Disk, st.from_regex(r"[a-c][a-c0-9-]{0,5}", fullmatch=True), SIZES, st.just("/mnt/x")), max_size=1
    ).map(tuple),
)
QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(SPECS)
def test_what_is_written_is_read_back_and_fits_the_schema(spec):
    text = render_spec(spec)
    assert parse_text(text, "machine.yaml") == spec
    jsonschema.validate(yaml.safe_load(text), made.machine_schema())


VALUES = JSON | st.floats() | st.sampled_from(["4GiB", "9" * 400 + "G", "/a", "/a:/usr", "auto", "off", "1.5TiB"])
KEYS = st.sampled_from([setting.key for setting in SETTINGS]) | WORDS


def tried(text):
    """What a text holds and None, or None and what is wrong with it; anything else is hostvm's own failure."""
    try:
        return parse_text(text, "machine.yaml"), None
    except SpecError as error:
        return None, error


@settings(QUICK, max_examples=300)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_values_are_read_or_refused_each_with_its_line_and_path(values):
    text = yaml.safe_dump(values, allow_unicode=True)
    spec, error = tried(text)
    if error is None:
        assert parse_text(render_spec(spec), "machine.yaml") == spec
    else:
        assert error.details
        assert all(line.startswith("line ") and ": " in line for line in error.details.splitlines())


@settings(QUICK, max_examples=200)
@given(st.text(max_size=80) | st.text("cpus: -[]{}&*!0123\n", max_size=60))
def test_any_text_is_read_or_refused(text):
    spec, error = tried(text)
    assert isinstance(spec, MachineSpec) if error is None else error.resolution == "correct it in: machine.yaml"


def test_all_faults_of_a_file_with_lines_and_paths():
    text = "cpus: 9\nports:\n  expose: moon\nmounts:\n- /a\n- source: /b\n  target: usr\ncpus: 1\ncolour: red\n"
    with pytest.raises(SpecError) as caught:
        parse_text(text, "machine.yaml")
    assert caught.value.brief == "5 wrong settings (machine.yaml)"
    told = caught.value.details.splitlines()
    assert told[0].startswith("line 1: has cpus twice, in line 1 and in line 8")
    assert told[1].startswith("line 1: cpus: 9 must be from 1 to 4")
    assert told[2] == "line 3: ports.expose: moon must be one of: loopback, lan"
    assert told[3] == "line 7: mounts[1].target: usr is not absolute"
    assert told[4].startswith("line 9: colour: unknown key; known ones are cpus,")


@pytest.mark.parametrize(
    "values",
    [
        {"colour": 1},
        {"memory": 4},
        {"memory": "4"},
        {"names": 70000},
        {"ports": {"open": 1}},
        {"mounts": [{"target": "/x"}]},
        {"mounts": [3]},
        {"ssh_agent": "yes"},
        {"registries": {"mirrors": "x"}},
    ],
)
def test_the_schema_refuses_what_a_start_does(values):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, made.machine_schema())
    with pytest.raises(SpecError):
        parse_text(json.dumps(values), "machine.yaml")


def test_defaults_in_the_schema_are_the_defaults():
    told = {key: facts["default"] for key, facts in made.machine_schema()["properties"].items() if "default" in facts}
    assert set(told) == {setting.key for setting in SETTINGS} - {"cpus", "memory", "mounts"}
    assert parse_text(json.dumps(told), "x") == replace(default_spec())
