from __future__ import annotations

from pathlib import Path

import pytest

from hostvm.doctor.redact import MASK, redact

SECRET = "hunter2-XYZ"


@pytest.mark.parametrize(
    "text",
    [
        f"HTTP_PROXY=http://me:{SECRET}@proxy:3128",
        f"git clone https://{SECRET}@host/repo",
        f'{{"auths": {{"registry": {{"auth": "{SECRET}"}}}}}}',
        f"DB_PASSWORD={SECRET}",
        f"--password {SECRET} --name web",
        f"docker login --password={SECRET}",
        f"token: {SECRET}",
        f'"identitytoken": "{SECRET}"',
        f"Authorization: Bearer {SECRET}",
        f"authorization=Basic {SECRET}",
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----\n",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\ncut off here",
        f"AWS_SECRET_ACCESS_KEY='{SECRET}'",
    ],
)
def test_a_secret_with_a_name_or_a_shape_is_masked(text):
    assert SECRET not in redact(f"before {text}")
    assert MASK in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "tcp://127.0.0.1:2375 answers",
        "ports: opened 127.0.0.1:8080 for web",
        'level=info msg="Daemon has completed initialization"',
        "image: sha256:04fa92bb9ec8905de93cdcc96ad7e0f0",
        "user@host:/path",
    ],
)
def test_what_helps_to_help_stays(text):
    assert redact(text) == text


def test_the_home_folder_is_not_told():
    assert redact(f"{Path.home()}/src/app") == ("~/src/app" if Path.home() != Path("/") else "//src/app")
