"""Who may: logins of both kinds, TLS, and that no secret goes astray. The registry itself checks every token."""

from __future__ import annotations

import base64
import json

import pytest
from registries import PASSWORD, USER, Registry, TokenServer, htpasswd, make_access

from hostvm.guest_images import registry_access
from images.errors import RegistryError
from images.progress import NullProgress
from images.registry.auth import Credentials
from images.registry.reference import parse_reference
from images.registry.transfer import pull_image, push_image

NONE = NullProgress()


@pytest.fixture
def small(make_image, cache):
    return make_image(cache, root=4 << 20)


def there_and_back(image, host, access, cache, ring):
    target = parse_reference(f"{host}/team/docker:1")
    push_image(image, target, access, cache, NONE, None)
    return pull_image(target, access, cache.parent / "other", ring, NONE, allow_unsigned=True)


def test_a_password(tmp_path, small, cache, ring, logged_in, access):
    with Registry(tmp_path / "registry", auth=htpasswd(tmp_path)) as registry:
        target = parse_reference(f"{registry.host}/team/docker:1")
        for who in (access, make_access(Credentials(USER, "wrong secret"))):
            with pytest.raises(RegistryError, match="refuses access to team/docker") as error:
                push_image(small, target, who, cache, NONE, None)
            assert "docker login" in error.value.resolution
            assert "wrong secret" not in str(error.value)
        assert there_and_back(small, registry.host, logged_in, cache, ring).fresh


def test_the_login_of_the_docker_client(tmp_path, small, cache, ring, no_docker_login):
    with Registry(tmp_path / "registry", auth=htpasswd(tmp_path)) as registry:
        no_docker_login.mkdir()
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (no_docker_login / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        assert there_and_back(small, registry.host, registry_access(registry.host), cache, ring).fresh


def test_tokens(tmp_path, authority, small, cache, ring, logged_in, access):
    with TokenServer(authority) as tokens, Registry(tmp_path / "registry", auth=tokens.auth) as registry:
        with pytest.raises(RegistryError, match="gives no token for repository:team/docker:pull,push"):
            there_and_back(small, registry.host, access, cache, ring)
        tokens.asked.clear()
        assert there_and_back(small, registry.host, logged_in, cache, ring).fresh
        scopes = [query["scope"] for query, _ in tokens.asked]
        assert scopes == ["repository:team/docker:pull,push", "repository:team/docker:pull"], "one token each"


def test_a_token_that_runs_out_is_renewed(tmp_path, authority, small, cache, ring, logged_in):
    with TokenServer(authority) as tokens, Registry(tmp_path / "registry", auth=tokens.auth) as registry:
        tokens.lifetime = -59  # the registry grants 60 s more: good for the next second alone
        assert there_and_back(small, registry.host, logged_in, cache, ring).fresh
        assert len(tokens.asked) >= 2


def test_an_identity_token(tmp_path, authority, small, cache, ring):
    with TokenServer(authority) as tokens, Registry(tmp_path / "registry", auth=tokens.auth) as registry:
        access = make_access(Credentials("", identity_token=PASSWORD))
        assert there_and_back(small, registry.host, access, cache, ring).fresh
        assert tokens.asked[0][0]["grant_type"] == "refresh_token"


def test_tls(tmp_path, authority, small, cache, ring):
    tls = {"tls": {"certificate": str(authority.cert), "key": str(authority.key)}}
    with Registry(tmp_path / "registry", http=tls) as registry:
        with pytest.raises(RegistryError, match="cannot reach the registry"):
            there_and_back(small, registry.host, make_access(None), cache, ring)
        assert there_and_back(small, registry.host, make_access(None, ca=authority.ca), cache, ring).fresh
        before = len(registry.log)
        there_and_back(small, registry.host, make_access(None, insecure=True), cache, ring)
        assert len(registry.log) > before
