# SPDX-License-Identifier: Apache-2.0
"""Where a template names the file that all trials share, each attempt gets its own."""

from __future__ import annotations

import pytest

from tunesmith_controller.workloads.redirect import redirection

KATIB = redirection("/var/log/katib/metrics.log", "/own/metrics/metrics.log")
OTHER = redirection("/scratch/m.json", "/own/metrics/m.json")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/var/log/katib/metrics.log", "/own/metrics/metrics.log"),
        ("--log=/var/log/katib/metrics.log", "--log=/own/metrics/metrics.log"),
        ("x > '/var/log/katib/metrics.log'; y", "x > '/own/metrics/metrics.log'; y"),
        ("--dir /var/log/katib", "--dir /own/metrics"),
        ("/var/log/katib/other", "/own/metrics/other"),
        ("/var/log/katib2/metrics.log", "/var/log/katib2/metrics.log"),
        ("/data/var/log/katib/metrics.log", "/data/var/log/katib/metrics.log"),
        ("/var/log/katib/metrics.log.old", "/own/metrics/metrics.log.old"),
        ("nothing", "nothing"),
    ],
)
def test_katibs_own_path_and_folder(text: str, expected: str) -> None:
    assert KATIB(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/scratch/m.json", "/own/metrics/m.json"),
        ("/scratch/other", "/scratch/other"),
        ("--dir=/scratch", "--dir=/scratch"),
        ("/scratch/m.json2", "/scratch/m.json2"),
    ],
)
def test_elsewhere_only_the_file_itself(text: str, expected: str) -> None:
    assert OTHER(text) == expected


def test_what_is_put_in_is_never_read_as_a_pattern() -> None:
    strange = redirection("/a/m.log", r"/own/\1/m.log")
    assert strange("/a/m.log") == r"/own/\1/m.log"
