# SPDX-License-Identifier: Apache-2.0
"""examples/digits/train.py as a trial runs it: a process whose printed lines are its metrics."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "digits"
KATIB_DEFAULT = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")

pytestmark = pytest.mark.integration


def printed(*arguments: str) -> str:
    """What the script prints, run as the Experiments run it."""
    finished = subprocess.run(
        [sys.executable, "train.py", *arguments],
        cwd=FOLDER,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert finished.stderr == ""
    return finished.stdout


def metrics(output: str) -> dict[str, list[float]]:
    """The values that Katib's default filter reads, by metric, in order."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for match in KATIB_DEFAULT.finditer(output):
        found[match[1]].append(float(match[2]))
    return dict(found)


def test_the_default_filter_reads_every_line_and_accuracy_rises() -> None:
    output = printed("--epochs=2")
    *epochs, last = output.splitlines()
    line = r"epoch=\d+ loss=\d+\.\d{4} accuracy=[01]\.\d{4}"
    assert [bool(re.fullmatch(line, text)) for text in epochs] == [True, True]
    assert re.fullmatch(r"test_accuracy=[01]\.\d{4}", last)
    found = metrics(output)
    assert found["epoch"] == [1, 2]
    assert found["accuracy"][0] < found["accuracy"][1]
    assert found["loss"][0] > found["loss"][1]


def test_hyper_parameters_decide_whether_the_network_learns() -> None:
    good = metrics(printed("--epochs=30", "--lr=0.03", "--batch-size=32"))
    low = metrics(printed("--epochs=30", "--lr=0.0001", "--momentum=0"))
    assert good["test_accuracy"][0] > 0.95
    assert low["test_accuracy"][0] < 0.5


def test_a_diverging_network_still_prints_numbers() -> None:
    output = printed("--lr=0.1", "--momentum=0.99", "--batch-size=16", "--hidden=128")
    assert len(metrics(output)["loss"]) == 10


def test_the_same_seed_prints_the_same_lines_and_another_does_not() -> None:
    first, again, other = (printed("--epochs=2", f"--seed={seed}") for seed in (1, 1, 2))
    assert first == again != other
