from __future__ import annotations

import pytest

from hostvm.emulate import AUTO, emulated, is_native, not_emulated, platform_arch, seed_emulators
from hostvm.errors import SpecError
from hostvm.spec import default_spec, parse_settings, rendered_settings


def read(value):
    return parse_settings({"emulate": value}, default_spec(), "machine.yaml").emulate


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("auto", AUTO),
        ([], ()),
        ("arm64,riscv64", ("arm64", "riscv64")),
        (["linux/arm/v7", "arm64", "arm64/v8"], ("arm", "arm64")),
        ([386], ("386",)),
        ("x86_64", ("amd64",)),
    ],
)
def test_what_emulate_reads(value, found):
    assert read(value) == found


@pytest.mark.parametrize("value", ["mips", ["arm64", "sparc"], {}, True, None, ["auto"], ""])
def test_what_it_refuses(value):
    with pytest.raises(SpecError) as caught:
        read(value)
    assert "emulate: " in caught.value.details


def test_auto_is_the_other_one():
    assert emulated(AUTO, "amd64") == ("arm64",)
    assert emulated(AUTO, "arm64") == ("amd64",)
    assert rendered_settings(default_spec())["emulate"] == "auto"


def test_what_runs_natively_is_never_emulated():
    assert emulated(("386", "amd64", "arm64"), "amd64") == ("arm64",)
    assert is_native("386", "amd64")
    assert not is_native("386", "arm64")


def test_the_seed_has_a_name_a_line_or_nothing():
    assert seed_emulators(("arm", "arm64"), "amd64") == {"emulate": b"arm\narm64\n"}
    assert seed_emulators((), "amd64") == {}


@pytest.mark.parametrize(
    ("platform", "arch"),
    [("linux/arm64", "arm64"), ("linux/arm/v7", "arm"), ("ARM64", "arm64"), ("linux/x86_64", "amd64"), ("", "")],
)
def test_platforms(platform, arch):
    assert platform_arch(platform) == arch


def test_the_error_names_the_setting_to_change():
    error = not_emulated("web", "riscv64", "linux/riscv64", AUTO, "amd64")
    assert error.resolution == "add it, then try again: hostvm set web emulate=arm64,riscv64"
    assert "linux/riscv64" in error.brief
    assert "--platform" in not_emulated("web", "mips", "linux/mips", AUTO, "amd64").resolution
