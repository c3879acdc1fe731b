# SPDX-License-Identifier: Apache-2.0
"""Where the observation service may listen, and what it says when it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith_observation.server import ServerOptions, run_server


def refusal(capsys: pytest.CaptureFixture[str], options: ServerOptions) -> str:
    assert run_server(options) == 2
    return capsys.readouterr().err


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/o.db"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"listen": "127.0.0.1:0"}, "--tls-cert"),
        ({"listen": "0.0.0.0:6789", "insecure": True}, "0.0.0.0 is none"),
        ({"listen": "[::]:6789", "insecure": True}, ":: is none"),
        ({"listen": "example.org:6789", "insecure": True}, "example.org is none"),
        ({"listen": "6789", "insecure": True}, "neither unix:/path nor host:port"),
        ({"listen": "127.0.0.1:1", "tls_cert": Path("a.pem")}, "needs both"),
        ({"listen": "unix:/" + "x" * 107}, "longer than 107 bytes"),
    ],
)
def test_an_unsafe_or_unusable_address_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, object],
    sentence: str,
) -> None:
    given = ServerOptions(db=url(tmp_path), **options)  # type: ignore[arg-type]
    assert sentence in refusal(capsys, given)
    assert not (tmp_path / "o.db").exists()


def test_a_socket_in_a_folder_of_others_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o750)
    options = ServerOptions(f"unix:{folder}/o.sock", url(tmp_path))
    assert f"mkdir -m 700 {folder}/tunesmith" in refusal(capsys, options)


@pytest.mark.parametrize(
    "db", ["observations.db", "sqlite://", "sqlite:///:memory:", "nonsense://x/y"]
)
def test_an_unusable_database_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], db: str
) -> None:
    assert refusal(capsys, ServerOptions(f"unix:{tmp_path}/s/o.sock", db)).strip()


def test_a_password_is_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ServerOptions(f"unix:{tmp_path}/s/o.sock", "nonsense://root:canary@host/db")
    assert "canary" not in refusal(capsys, options)
