# SPDX-License-Identifier: Apache-2.0
"""examples/digits/train_json.py and train_report.py as trials run them, read by our parsers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith_api.metrics import Row
from tunesmith_metrics_collector.parsers.json_lines import JsonLinesParser
from tunesmith_metrics_collector.sources.tail import Block

FOLDER = Path(__file__).parents[2] / "examples" / "digits"
WANTED = ["accuracy", "loss", "test_accuracy"]

pytestmark = pytest.mark.integration


def ran(script: str, *arguments: str, **environment: str) -> str:
    """What it prints."""
    finished = subprocess.run(
        [sys.executable, script, *arguments],
        cwd=FOLDER,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert finished.stderr == ""
    return finished.stdout


def rows_of(file: Path) -> list[Row]:
    data = file.read_bytes()
    parsed = JsonLinesParser(WANTED).parse(Block(data, 0, len(data)))
    assert parsed.skipped == 0
    return parsed.rows


def test_the_json_variant_prints_as_ever_and_writes_the_same_figures(tmp_path: Path) -> None:
    file = tmp_path / "katib" / "metrics.log"
    printed = ran("train_json.py", f"--metrics-file={file}", "--epochs=2", "--lr=0.03")
    assert printed == ran("train.py", "--epochs=2", "--lr=0.03")
    rows = rows_of(file)
    assert all(f"{row.metric}={row.value}" in printed for row in rows)
    assert [row.metric for row in rows] == ["loss", "accuracy"] * 2 + ["test_accuracy"]
    assert [row.time_us > 0 for row in rows] == [True] * 5


def test_a_diverging_network_still_writes_lines_that_count(tmp_path: Path) -> None:
    file = tmp_path / "metrics.log"
    extreme = ("--lr=0.1", "--momentum=0.99", "--batch-size=16", "--hidden=128", "--epochs=3")
    ran("train_json.py", f"--metrics-file={file}", *extreme)
    assert len(rows_of(file)) == 7


def test_the_reporting_variant_reports_every_epoch_and_prints_nothing(tmp_path: Path) -> None:
    file = tmp_path / "report.jsonl"
    assert ran("train_report.py", "--epochs=2", TUNESMITH_METRICS_FILE=str(file)) == ""
    rows = rows_of(file)
    assert [(row.metric, row.step) for row in rows] == [
        ("loss", 1),
        ("accuracy", 1),
        ("loss", 2),
        ("accuracy", 2),
        ("test_accuracy", None),
    ]
    assert float(rows[1].value) < float(rows[3].value)


def test_outside_a_trial_the_reporting_variant_prints() -> None:
    assert "step=1 loss=" in ran("train_report.py", "--epochs=1", TUNESMITH_METRICS_FILE="")
