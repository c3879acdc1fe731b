# SPDX-License-Identifier: Apache-2.0
"""`tunesmith db-manager` and `tunesmith suggestion` where there is no cluster to ask."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


def said(*words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tunesmith", *words],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "words", [("suggestion",), ("db-manager", "--db", "sqlite:////nowhere/o.db")]
)
def test_without_a_cluster_a_service_that_is_to_ask_one_says_so(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    place = ("--cluster", "--kubeconfig", str(tmp_path / "none"))
    code, text = said(*words, "--listen", "127.0.0.1:0", "--insecure", *place)
    assert code == 3
    assert "no cluster to talk to" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--katib-listen", "0.0.0.0:6789"), "--katib-listen goes with --cluster"),
        (("--katib-read", "all"), "--katib-read all is none of any, trials"),
    ],
)
def test_options_that_cannot_be_used_are_refused_in_one_sentence(
    tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    db = f"sqlite:///{tmp_path}/o.db"
    code, text = said("db-manager", "--listen", f"unix:{tmp_path}/s/o.sock", "--db", db, *words)
    assert code == 2
    assert sentence in text
