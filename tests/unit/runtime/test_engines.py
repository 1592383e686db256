"""What stands in several places about each engine agrees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostvm.engines import ENGINES, WITHOUT_DOCKER_API
from hostvm.errors import ForwardError, SpecError
from hostvm.net.addresses import GuestNetwork
from hostvm.net.plan import NetworkPlan
from hostvm.spec import default_spec
from images.recipe import find_recipe
from runtime.engine import find_engine
from runtime.words import DOCKERS, FORWARDED

PLAN = NetworkPlan(GuestNetwork.of("10.0.2.0/24"), (), {}, b"")


@pytest.mark.parametrize("name", ENGINES)
def test_each_engine_is_found_and_has_its_image(name):
    assert find_engine(name).name == name
    assert find_recipe(name).engine == name


def test_an_unknown_engine_is_answered_with_the_known():
    with pytest.raises(SpecError) as raised:
        find_engine("rkt")
    assert raised.value.details == "known ones are: docker, podman, containerd"


def test_each_engine_has_words_and_dockers_only_where_its_api_is():
    for word, (engines, argv) in FORWARDED.items():
        assert argv
        assert set(engines) <= set(ENGINES)
        assert word not in DOCKERS or not set(engines) & WITHOUT_DOCKER_API
    assert {engine for engines, _ in FORWARDED.values() for engine in engines} == set(ENGINES)


def test_containerd_takes_no_settings_of_an_engine():
    engine = find_engine("containerd")
    assert engine.seed(default_spec(), PLAN) == {}
    with pytest.raises(SpecError) as raised:
        engine.seed(replace(default_spec(), daemon={"debug": True}), PLAN)
    assert raised.value.brief == "daemon: cannot be set for containerd"


def test_an_engine_without_dockers_api_says_so():
    from hostvm.agent.client import refuse_docker

    refuse_docker("box", "podman")
    with pytest.raises(ForwardError) as raised:
        refuse_docker("box", "containerd")
    assert raised.value.brief == "machine box has no Docker API"


def test_the_running_engine_is_read_from_what_the_agent_was_told(tmp_path):
    from hostvm.agent.client import engine_of

    assert engine_of(tmp_path) == ""
    for text, engine in (('{\n "engine": "podman"\n}', "podman"), ('{\n "engine_socket": "/run/x"\n}', "docker")):
        (tmp_path / "agent.json").write_text(text)
        assert engine_of(tmp_path) == engine


def test_a_machine_gets_its_engines_image_and_no_others():
    from pathlib import Path

    from hostvm.errors import ImageError
    from hostvm.guest_images import require_engine
    from hostvm.spec import with_own_image
    from images.store import Image

    usual = default_spec()
    assert with_own_image(replace(usual, engine="podman")).image == "podman"
    assert with_own_image(replace(usual, engine="podman", image="mine")).image == "mine"
    old, new = (Image("0" * 64, Path("x"), {"name": "mine", **more}) for more in ({}, {"engine": "podman"}))
    require_engine(old, "docker", rootless=False)
    require_engine(new, "podman", rootless=False)
    for image, engine in ((old, "podman"), (new, "docker")):
        for rootless in (False, True):
            with pytest.raises(ImageError, match=f"not {engine}"):
                require_engine(image, engine, rootless=rootless)


def test_a_rootless_machine_gets_an_image_of_its_own_and_no_others():
    from pathlib import Path

    from hostvm.errors import ImageError
    from hostvm.guest_images import require_engine
    from hostvm.spec import with_own_image
    from images.store import Image

    usual = replace(default_spec(), rootless=True)
    assert with_own_image(usual).image == "docker-rootless"
    assert with_own_image(replace(usual, engine="podman")).image == "podman-rootless"
    with pytest.raises(SpecError) as caught:
        with_own_image(replace(usual, engine="containerd"))
    assert "rootless: containerd needs root's rights; docker and podman do not" in caught.value.details
    own = Image("0" * 64, Path("x"), {"name": "mine", "engine": "podman", "rootless": True})
    require_engine(own, "podman", rootless=True)
    with pytest.raises(ImageError, match="without root's rights") as refused:
        require_engine(own, "podman", rootless=False)
    assert refused.value.resolution == "take the image podman, or one made from its recipe"
