from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.archive.packages import PackageIndex
from images.archive.resolver import resolve
from images.errors import ImageError, MirrorError


def index(*packages: str) -> PackageIndex:
    """Each package as `name[=version] [<field>: value; ...]`."""
    found = PackageIndex()
    for package in packages:
        head, _, rest = package.partition(" ")
        name, _, version = head.partition("=")
        fields = "".join(f"{field.strip()}\n" for field in rest.split(";") if field.strip())
        stanza = (
            f"Package: {name}\nVersion: {version or '1'}\nArchitecture: all\n{fields}"
            f"Filename: {name}.deb\nSize: 1\nSHA256: {name}\n"
        )
        found.add([stanza.encode()], "http://mirror.test")
    return found


def names(*args, **kwargs) -> list[str]:
    return [package.name for package in resolve(*args, **kwargs)]


def test_the_closure_follows_depends_and_pre_depends_only():
    shop = index("a Depends: b; Recommends: r; Suggests: s", "b Pre-Depends: c", "c", "r", "s")
    assert names(shop, ["a"]) == ["a", "b", "c"]


def test_circles_end():
    """They are taken, as apt takes them; docs/images.md says why."""
    assert names(index("a Depends: b", "b Depends: a"), ["a"]) == ["a", "b"]
    assert names(index("a Pre-Depends: b", "b Depends: c (>= 1)", "c Pre-Depends: a"), ["c"]) == ["a", "b", "c"]
    assert names(index("a Depends: a"), ["a"]) == ["a"]


def test_the_first_alternative_that_exists_is_taken():
    assert names(index("a Depends: none | b | c", "b", "c"), ["a"]) == ["a", "b"]


def test_a_wanted_alternative_saves_the_first():
    assert names(index("a Depends: b | c", "b", "c"), ["a", "c"]) == ["a", "c"]
    assert names(index("a Depends: b | c", "b", "c"), ["c", "a"]) == ["a", "c"]


def test_provides_meet_a_dependency():
    shop = index("a Depends: mta", "exim Provides: mta", "postfix Provides: mta")
    assert names(shop, ["a"]) == ["a", "exim"]
    assert names(shop, ["a", "postfix"]) == ["a", "postfix"]


def test_a_versioned_provides():
    shop = index("a Depends: abi (>= 2)", "old Provides: abi (= 1)", "new Provides: abi (= 2)")
    assert names(shop, ["a"]) == ["a", "new"]


def test_excluded_packages_count_as_present():
    shop = index("a Depends: b, c | d", "b Depends: e", "c", "d", "e")
    assert names(shop, ["a"], {"b", "c"}) == ["a"]


def test_every_fault_is_told_at_once_with_close_names():
    shop = index("openssh-server Depends: libfoo (>= 2)", "libfoo=1")
    with pytest.raises(ImageError) as error:
        resolve(shop, ["openssh-servr", "openssh-server", "zzz", "libfoo"], {"libfoo"})
    assert error.value.details.splitlines() == [
        "openssh-servr: no such package; close: openssh-server",
        "zzz: no such package",
        "libfoo: both wanted and excluded",
    ]
    with pytest.raises(ImageError, match=r"openssh-server needs libfoo \(>= 2\), which nothing offers"):
        resolve(shop, ["openssh-server"])


def test_what_is_no_version_is_met_by_none():
    with pytest.raises(ImageError, match=r"a needs b \(>= 1_0\), which nothing offers"):
        resolve(index("a Depends: b (>= 1_0)", "b=2"), ["a"])
    with pytest.raises(ImageError, match=r"a needs v \(>= 1\), which nothing offers"):
        resolve(index("a Depends: v (>= 1)", "b Provides: v (= 1_0)"), ["a"])


def test_the_order_of_names_does_not_matter():
    shop = index("a Depends: x", "b Depends: y", "x", "y")
    assert names(shop, ["a", "b"]) == names(shop, ["b", "a"])


def clash(*packages: str, wanted: list[str], exclude: set[str] | None = None) -> list[str]:
    """What is told of packages that do not fit together; empty when they do."""
    try:
        resolve(index(*packages), wanted, exclude or set())
    except ImageError as error:
        return error.details.splitlines()
    return []


@pytest.mark.parametrize("field", ["Conflicts", "Breaks"])
@pytest.mark.parametrize(
    ("against", "other", "fits"),
    [
        ("b", "b=2", False),
        ("b (<< 2)", "b=2", True),
        ("b (<< 2)", "b=2~rc1", False),
        ("b (= 1:2)", "b=2", True),
        ("b (>> 1)", "b=2", False),
        ("x, b (<< 3), y", "b=2", False),
        ("v", "b Provides: v", False),
        ("v", "b Provides: w, v (= 1)", False),
        ("v (<< 2)", "b Provides: v (= 1)", False),
        ("v (<< 2)", "b Provides: v (= 2)", True),
        ("v (<< 2)", "b Provides: v", True),  # what has no version is in no relation to one
        ("b (<< 2)", "b=2 Provides: b (= 1)", False),  # by its own name, too
        ("b:any", "b=2", False),
        ("b:all", "b=2", False),
        ("b:i386", "b=2", True),  # another architecture's, which is not here
        ("v:i386", "b Provides: v", True),
        ("bb", "b=2", True),
    ],
)
def test_what_conflicts_with_a_package(field, against, other, fits):
    told = clash(f"a {field}: {against}", other, wanted=["a", "b"])
    assert bool(told) is not fits, told


def test_a_package_has_nothing_against_itself():
    virtual = "Provides: mta; Conflicts: mta; Breaks: a, a (<< 5)"
    assert names(index(f"a {virtual}"), ["a"]) == ["a"]
    told = clash(f"a {virtual}", "b Provides: mta; Conflicts: mta", wanted=["a", "b"])
    assert told == ["a 1 conflicts with mta, which b 1 provides (a: asked for; b: asked for)"]  # the pair once


def test_both_of_a_pair_are_named_and_what_each_is_there_for():
    packages = (
        "web Depends: httpd | nginx",
        "mail Depends: lib, tool",
        "tool Depends: nginx",
        "httpd=2.4 Breaks: nginx (<< 1:0)",
        "nginx=0.9",
        "lib",
    )
    with pytest.raises(ImageError) as caught:
        resolve(index(*packages), ["web", "mail", "lib", "httpd"])
    assert caught.value.brief == "the packages do not fit together"
    assert caught.value.details == (
        "httpd 2.4 breaks nginx (<< 1:0), and nginx 0.9 is chosen "
        "(httpd: asked for and needed by web; nginx: needed by mail, web)"
    )
    assert "name the alternative that fits in `packages`" in caught.value.resolution
    # The way out that it names: the alternative that fits.
    assert clash(*packages, wanted=["web", "mail", "lib", "nginx"]) == []


def test_many_that_need_one_are_counted():
    users = [f"u{number} Depends: lib" for number in range(8)]
    told = clash("lib", "a Conflicts: lib", *users, wanted=["a", *(f"u{number}" for number in range(8))])
    assert told == [
        "a 1 conflicts with lib, and lib 1 is chosen (a: asked for; lib: needed by u0, u1, u2, u3, u4 and 3 more)"
    ]


def test_only_what_is_chosen_is_in_the_way():
    shop = ("a Depends: b; Conflicts: c, d", "b", "c Conflicts: a", "d", "e Conflicts: b")
    assert clash(*shop, wanted=["a"]) == []
    assert clash(*shop, wanted=["a", "c"], exclude={"b"}) != []
    assert clash("a Depends: d; Conflicts: d", "d", wanted=["a"], exclude={"d"}) == []


def test_what_is_no_conflict_is_the_mirrors_fault_when_it_is_chosen():
    shop = index("a", "b Conflicts: c >= 2", "d Breaks: e | f")
    assert names(shop, ["a"]) == ["a"]
    for name in ("b", "d"):
        with pytest.raises(MirrorError, match=rf"Its entry '{name}': .*not a conflict"):
            resolve(shop, [name])


NAMES = st.sampled_from("abcde")
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from(["", "(<< 2)", "(>= 2)", "(= 1)"])), max_size=2)
SHOPS = st.fixed_dictionaries(
    {name: st.tuples(st.sampled_from([1, 2]), st.lists(NAMES, max_size=2), FIELDS, FIELDS) for name in "abcde"},
)


@given(SHOPS, st.permutations("abcde"), st.integers(1, 5))
def test_no_two_that_clash_are_ever_chosen_together_and_others_always_are(shop, order, count):
    """By a look at every pair, without a thought for how the closure was found."""
    holds = {
        "": lambda _: True,
        "(<< 2)": lambda v: v < 2,
        "(>= 2)": lambda v: v >= 2,
        "(= 1)": lambda v: v == 1,
    }
    lines, plain = [], []
    for name, (version, depends, conflicts, breaks) in shop.items():
        head = f"{name}={version} Depends: {', '.join(depends)}"
        against = [", ".join(f"{other} {op}" for other, op in field) for field in (conflicts, breaks)]
        plain.append(head)
        lines.append(f"{head}; Conflicts: {against[0]}; Breaks: {against[1]}")
    wanted = order[:count]
    closure = names(index(*plain), wanted)
    pairs = {
        frozenset((name, other))
        for name in closure
        for other, op in shop[name][2] + shop[name][3]
        if other in closure and other != name and holds[op](shop[other][0])
    }
    told = clash(*lines, wanted=wanted)
    assert len(told) == len(pairs)
    assert told == clash(*lines, wanted=sorted(wanted))
    if not pairs:
        assert names(index(*lines), wanted) == closure
