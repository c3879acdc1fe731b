# SPDX-License-Identifier: Apache-2.0
"""What is installed is what was meant: the wheel's contents, the sidecar's size, the messages."""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SIDECAR_MEGABYTES = 40


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from what git knows, so that local leftovers do not count."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (built,) = folder.glob("tunesmith-*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and its base dependencies only."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, str(wheel)], check=True)
    return python


def test_the_wheel_holds_every_package_their_migrations_and_the_report_helper(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = {name.split("/")[0] for name in names if name.endswith("/__init__.py")}
    assert packages == {
        "tunesmith",
        "tunesmith_api",
        "tunesmith_controller",
        "tunesmith_earlystopping",
        "tunesmith_metrics_collector",
        "tunesmith_observation",
        "tunesmith_proto",
        "tunesmith_suggestion",
    }
    assert "tunesmith/_report.py" in names
    assert "tunesmith/py.typed" in names
    assert "tunesmith_controller/workloads/supervisor.py" in names
    assert any(name.startswith("tunesmith_observation/migrations/") for name in names)


def test_the_sidecar_runs_on_the_base_dependencies(bare: Path) -> None:
    program = (
        "import tunesmith_metrics_collector.fleet, tunesmith_metrics_collector.sink, sys;"
        "print([m for m in ('numpy', 'sqlalchemy', 'pydantic', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([str(bare), "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_training_code_reports_with_nothing_but_the_wheel(bare: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    done = subprocess.run(
        [str(bare), "-c", "import tunesmith; tunesmith.report(step=1, loss=0.5)"],
        env={"TUNESMITH_METRICS_FILE": str(rows)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"loss": 0.5' in rows.read_text()


def test_the_base_install_stays_small(bare: Path) -> None:
    packages = bare.parents[1].glob("lib/python*/site-packages/*")
    counted = [p for p in packages if not p.name.startswith(("pip", "setuptools", "_distutils"))]
    total = sum(f.stat().st_size for p in counted for f in [p, *p.rglob("*")] if f.is_file())
    assert total < SIDECAR_MEGABYTES * 1_000_000, f"{total / 1e6:.0f} MB"


def test_the_generated_messages_are_those_of_the_proto_files(tmp_path: Path) -> None:
    out = tmp_path / "generated"
    subprocess.run([str(ROOT / "proto" / "generate.sh"), str(out)], check=True, capture_output=True)
    fresh = sorted(path.relative_to(out) for path in out.rglob("*_pb2.py*"))
    assert len(fresh) == 6
    kept = ROOT / "proto" / "tunesmith_proto"
    _, different, missing = filecmp.cmpfiles(out, kept, map(str, fresh), shallow=False)
    assert (different, missing) == ([], []), "run `make proto` and commit the result"
