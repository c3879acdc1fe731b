# SPDX-License-Identifier: Apache-2.0
"""tunesmith-report, the one file that training code imports: what it writes, prints and refuses.

The file is loaded by its path, as a training image without tunesmith would have it.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HELPER = Path(__file__).parents[2] / "sdk" / "report" / "tunesmith_report.py"
KATIB_DEFAULT = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")
RANK_VARIABLES = ("RANK", "OMPI_COMM_WORLD_RANK", "PET_NODE_RANK", "LOCAL_RANK")

# Each writer forks; parent and child append 1,000 lines, every hundredth larger than a page.
WRITER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from tunesmith_report import report

child = os.fork()
name = f"writer-{os.getpid()}"
for step in range(1000):
    many = {f"weight-{n}": n / 7 for n in range(400)} if step % 100 == 0 else {}
    report(step, **{name: step / 3}, **many)
if child:
    os.waitpid(child, 0)
"""

# The kernel takes the first 20 bytes only, as it does on a disk that fills up.
FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from tunesmith_report import report

resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
try:
    report(loss=1.0)
except OSError as error:
    print(error)
"""


def load() -> Any:
    spec = importlib.util.spec_from_file_location("tunesmith_report_under_test", HELPER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


helper = load()
report: Callable[..., None] = helper.report


@pytest.fixture(autouse=True)
def no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def metrics_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "metrics.jsonl"
    monkeypatch.setenv("TUNESMITH_METRICS_FILE", str(path))
    return path


@pytest.fixture
def outside_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNESMITH_METRICS_FILE", raising=False)


def lines(path: Path) -> list[dict[str, object]]:
    text = path.read_bytes().decode("ascii")
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def reported(path: Path) -> dict[str, object]:
    (line,) = lines(path)
    return {name: value for name, value in line.items() if name != "timestamp"}


def test_a_report_is_one_json_line_with_time_step_and_metrics(metrics_file: Path) -> None:
    report(step=3, loss=0.1 + 0.2, images=7)
    text = metrics_file.read_text()
    time = r'"timestamp": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"'
    assert re.fullmatch(rf'{{{time}, "step": 3, "loss": 0.30000000000000004, "images": 7}}\n', text)


def test_lines_are_appended_to_what_the_file_holds(metrics_file: Path) -> None:
    metrics_file.write_text('{"loss": 9}\n')
    report(loss=1)
    report(loss=2)
    assert [line["loss"] for line in lines(metrics_file)] == [9, 1, 2]


def test_the_step_is_left_out_when_not_given_and_may_be_a_numpy_integer(metrics_file: Path) -> None:
    report(loss=1.0)
    report(np.int64(4), loss=1.0)
    first, second = lines(metrics_file)
    assert "step" not in first
    assert second["step"] == 4


def test_nan_and_infinities_are_strings_because_json_lacks_them(metrics_file: Path) -> None:
    report(a=math.nan, b=math.inf, c=-math.inf, d=np.float32("nan"))
    want = {"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": "NaN"}
    assert reported(metrics_file) == want


def test_scalars_of_other_libraries_go_through_float(metrics_file: Path) -> None:
    report(a=np.float32(0.5), b=np.int64(3), c=np.array(0.25), d=Fraction(1, 8), e=True)
    assert reported(metrics_file) == {"a": 0.5, "b": 3.0, "c": 0.25, "d": 0.125, "e": 1}


@pytest.mark.parametrize("value", ["0.5", None, [1.0], np.array([1.0, 2.0]), 1j, np.complex64(1)])
def test_what_is_no_number_is_a_type_error_that_names_the_metric(
    metrics_file: Path, value: object
) -> None:
    with pytest.raises(TypeError, match="'accuracy'"):
        report(loss=0.1, accuracy=value)
    assert not metrics_file.exists()


@pytest.mark.parametrize(
    "name", ["", "timestamp", "a\nb", "a\rb", "a\x00b", "a\u2028b", "\ud800", "x" * 251, "é" * 126]
)
def test_a_name_that_a_line_or_a_database_cannot_hold_is_refused(
    metrics_file: Path, name: str
) -> None:
    with pytest.raises(ValueError, match="name"):
        report(**{name: 1.0})
    assert not metrics_file.exists()


def test_the_step_cannot_pass_as_a_metric_nor_be_a_fraction(metrics_file: Path) -> None:
    with pytest.raises(TypeError, match="step"):
        report(step=0.5, loss=1.0)


def test_the_longest_name_and_any_printable_text_are_kept(metrics_file: Path) -> None:
    names = ["x" * 250, "é" * 125, 'val/loss "a" = 1']
    report(**dict.fromkeys(names, 1.0))
    assert list(reported(metrics_file)) == names


def test_an_integer_beyond_a_float_and_an_empty_report_are_refused(metrics_file: Path) -> None:
    with pytest.raises(ValueError, match="'huge'"):
        report(huge=10**400)
    with pytest.raises(ValueError, match="at least one metric"):
        report(step=1)


def test_a_line_of_one_mebibyte_is_written_and_a_longer_one_refused(metrics_file: Path) -> None:
    padding = {f"{n:0>246}": 1 for n in range(4144)}  # 253 bytes each, with ', "": 1'
    report(**padding)
    room = helper.MAX_LINE_BYTES - metrics_file.stat().st_size
    metrics_file.unlink()
    filler = "y" * (room - len(', "": 1'))
    report(**padding, **{filler: 1})
    assert metrics_file.stat().st_size == helper.MAX_LINE_BYTES
    with pytest.raises(ValueError, match="limit"):
        report(**padding, **{filler + "y": 1})
    assert len(lines(metrics_file)) == 1


def test_a_file_that_cannot_be_written_is_an_os_error_with_its_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = tmp_path / "missing" / "metrics.jsonl"
    monkeypatch.setenv("TUNESMITH_METRICS_FILE", str(missing))
    with pytest.raises(FileNotFoundError) as raised:
        report(loss=1.0)
    assert raised.value.filename == str(missing)


def test_a_line_that_was_cut_short_is_an_os_error(metrics_file: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(HELPER.parent)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert "only 20 of" in finished.stdout
    assert str(metrics_file) in finished.stdout


@pytest.mark.usefixtures("outside_a_trial")
@pytest.mark.parametrize("value", [0.3, -2.5, 1e-07, 1.5e300, 12, -3, 0.1 + 0.2])
def test_outside_a_trial_katibs_default_filter_reads_what_is_printed(
    capsys: pytest.CaptureFixture[str], value: float
) -> None:
    report(step=3, loss=value, **{"val-accuracy": 0.5})
    found = {match[1]: float(match[2]) for match in KATIB_DEFAULT.finditer(capsys.readouterr().out)}
    assert found == {"step": 3, "loss": value, "val-accuracy": 0.5}


def test_an_empty_variable_means_no_trial(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUNESMITH_METRICS_FILE", "")
    report(loss=0.5, accuracy=math.nan)
    assert capsys.readouterr().out == "loss=0.5 accuracy=NaN\n"


def test_inside_a_trial_nothing_is_printed(
    metrics_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(loss=0.5)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("environment", "reports"),
    [
        ({"RANK": "0"}, True),
        ({"RANK": "1"}, False),
        ({"RANK": "0", "PET_NODE_RANK": "1", "LOCAL_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"OMPI_COMM_WORLD_RANK": "0", "LOCAL_RANK": "1"}, True),
        ({"OMPI_COMM_WORLD_RANK": "3"}, False),
        ({"PET_NODE_RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"PET_NODE_RANK": "0", "LOCAL_RANK": "1"}, False),
        ({"PET_NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"PET_NODE_RANK": "1"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "", "LOCAL_RANK": "none"}, True),
    ],
)
def test_only_rank_zero_reports(
    metrics_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    reports: bool,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    report(loss=1.0)
    assert metrics_file.exists() is reports


def test_every_rank_reports_when_asked_to(
    metrics_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "5")
    report(all_ranks=True, loss=1.0)
    assert reported(metrics_file) == {"loss": 1.0}


def test_processes_and_their_forks_never_tear_each_others_lines(metrics_file: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(HELPER.parent)]
    writers = [subprocess.Popen(command) for _ in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    steps: dict[str, list[object]] = {}
    for line in lines(metrics_file):
        (name,) = (key for key in line if key.startswith("writer-"))
        steps.setdefault(name, []).append(line["step"])
    assert list(steps.values()) == [list(range(1000))] * 6


def test_threads_never_tear_each_others_lines(metrics_file: Path) -> None:
    def work(name: str) -> None:
        for step in range(200):
            report(step, **{name: step})

    threads = [threading.Thread(target=work, args=(f"thread-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(lines(metrics_file)) == 8 * 200


def test_the_file_is_python_3_8_and_imports_only_the_standard_library() -> None:
    tree = ast.parse(HELPER.read_text(), feature_version=(3, 8))
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").partition(".")[0])
    assert modules <= sys.stdlib_module_names


def test_the_public_surface_is_three_functions_and_a_version() -> None:
    assert helper.__all__ == ["checkpoint_dir", "report", "should_stop"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", helper.__version__)
