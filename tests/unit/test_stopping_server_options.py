# SPDX-License-Identifier: Apache-2.0
"""Where the early stopping service may listen and write, and what it says when it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith_earlystopping.__main__ import options_of
from tunesmith_earlystopping.server import ServerOptions, run_server


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"listen": "127.0.0.1:0"}, "--tls-cert"),
        ({"listen": "0.0.0.0:6788", "insecure": True}, "0.0.0.0 is none"),
        ({"listen": "[::]:6788", "insecure": True}, ":: is none"),
        ({"listen": ":6788", "insecure": True}, "an empty host is none"),
        ({"listen": "example.org:6788", "insecure": True}, "example.org is none"),
        ({"listen": "6788", "insecure": True}, "neither unix:/path nor host:port"),
        ({"listen": "127.0.0.1:99999", "insecure": True}, "neither unix:/path nor host:port"),
        ({"listen": "127.0.0.1:1", "tls_cert": Path("a.pem")}, "both"),
        (
            {"listen": "127.0.0.1:1", "tls_cert": Path("/no/c"), "tls_key": Path("/no/k")},
            "cannot read /no/k",
        ),
        (
            {"listen": "h:1", "insecure": True, "tls_cert": Path("c"), "tls_key": Path("k")},
            "exclude each other",
        ),
        ({"listen": "unix:/" + "x" * 107}, "longer than 107 bytes"),
        ({"listen": "unix:/s", "tls_cert": Path("a.pem")}, "a Unix socket needs none"),
        ({"listen": "unix:/s", "namespace": "team"}, "go with --api URL"),
        ({"listen": "unix:/s", "api": "https://h"}, "--namespace"),
    ],
)
def test_an_unsafe_or_unusable_option_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str], options: dict[str, object], sentence: str
) -> None:
    assert run_server(ServerOptions(**options)) == 2  # type: ignore[arg-type]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("tunesmith earlystopping: ")
    assert sentence in said.err


def test_a_socket_in_a_folder_of_others_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o750)
    assert run_server(ServerOptions(f"unix:{folder}/e.sock")) == 2
    assert f"mkdir -m 700 {folder}/tunesmith" in capsys.readouterr().err


def test_a_file_that_is_no_socket_is_not_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o700)
    file = tmp_path / "notes"
    file.write_text("mine")
    assert run_server(ServerOptions(f"unix:{file}")) == 2
    assert "is not a socket" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_every_option_can_be_given_on_the_command_line() -> None:
    given = "--listen h:1 --insecure --tls-cert c --tls-key k --max-message-bytes 9 --api u"
    more = "--namespace n --token-file t --ca-file a"
    assert options_of(f"{given} {more}".split()) == ServerOptions(
        listen="h:1",
        insecure=True,
        tls_cert=Path("c"),
        tls_key=Path("k"),
        max_message_bytes=9,
        api="u",
        namespace="n",
        token_file=Path("t"),
        ca_file=Path("a"),
    )
