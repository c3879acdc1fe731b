# SPDX-License-Identifier: Apache-2.0
"""The peers' own virtual environments, pinned, outside the checkout. Called by `runs`.

They live under $TUNESMITH_BENCH_CACHE, else ~/.cache/tunesmith-bench; what is there is used, what
is missing is installed from PyPI. Torch comes from Debian's packages, unpacked into a folder:
nothing is installed system-wide (PyPI's torch brings gigabytes of CUDA).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ONE_THREAD: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}


@dataclass(frozen=True, slots=True)
class Environment:
    """`steps` are arguments of `pip install`, in order; `torch` links Debian's."""

    name: str
    steps: tuple[tuple[str, ...], ...]
    torch: bool = False


_NUMERIC: Final = ("numpy==1.26.4", "scipy==1.13.1")

OPTUNA: Final = Environment("optuna", (("optuna==5.0.0", "cmaes==0.13.1", *_NUMERIC),), torch=True)
SKOPT: Final = Environment(
    "skopt", (("scikit-optimize==0.10.2", "scikit-learn==1.5.2", *_NUMERIC),)
)
SMAC: Final = Environment("smac", (("smac==2.4.1",),))
_HEBO_NEEDS: Final = (
    "autograd==1.9.1", "catboost==1.2.2", "cloudpickle==3.1.2", "cma==3.2.2", "contourpy==1.2.1",
    "cycler==0.12.1", "Deprecated==1.3.1", "dill==0.4.1", "disjoint-set==0.7.4",
    "fonttools==4.68.0", "gpytorch==1.10", "graphviz==0.21", "jaxtyping==0.2.19", "joblib==1.6.0",
    "kiwisolver==1.5.1", "linear-operator==0.4.0", "matplotlib==3.7.5", "narwhals==2.29.0",
    "networkx==3.2.1", "packaging==26.3", "pandas==1.5.3", "pillow==13.0.0", "plotly==7.1.0",
    "pyparsing==3.3.3", "python-dateutil==4.0.0", "pytz==2026.6", "scikit-learn==1.2.2",
    "six==1.17.0", "threadpoolctl==3.8.0", "typeguard==2.13.3", "typing_extensions==4.16.0",
    "tzdata==2026.6", "wrapt==2.5.2", "alive-progress==3.3.0", "about-time==4.2.1",
    "graphemeu==0.7.2", "HEBO==0.3.6",
)  # fmt: skip
"""Without dependencies: some ask for PyPI's torch, for GPy (unused here) or for a newer NumPy."""
HEBO: Final = Environment(
    "hebo",
    (
        ("setuptools<70", "wheel", "cython<3", "numpy==1.24.4", "scipy==1.10.1"),
        ("--no-deps", *_HEBO_NEEDS),
        ("--no-deps", "--no-build-isolation", "pymoo==0.6.0"),
    ),
    torch=True,
)
_JAX: Final = ("jax==0.4.34", "jaxlib==0.4.34", "flax==0.10.0", "optax==0.2.5", "chex==0.1.90")
VIZIER: Final = Environment(
    "vizier",
    (
        ("google-vizier==0.1.24", "numpy==1.26.4", "scipy==1.17.1", "typeguard==2.13.3", *_JAX),
        ("tensorflow-probability==0.24.0", "equinox==0.11.7", "jaxopt==0.8.5", *_JAX),
        ("cvxpy==1.7.5", "cvxopt==1.3.3", "evojax==0.2.17", "lightgbm==4.7.0", *_JAX),
        ("scikit-learn==1.9.1", "jaxtyping==0.3.11", "numpy==1.26.4", *_JAX),
    ),
)
"""Its extras ask for a nightly TensorFlow Probability that needs a newer JAX than it works with."""


def cache_folder() -> Path:
    given = os.environ.get("TUNESMITH_BENCH_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "tunesmith-bench"


def python_of(environment: Environment | None) -> Path:
    """Its interpreter, after installing what is missing; ours for None.

    Raises CalledProcessError where an installation fails; what it said is on standard error.
    """
    if environment is None:
        return Path(sys.executable)
    folder = cache_folder() / environment.name
    python = folder / "bin" / "python"
    marker = folder / "complete"
    wanted = "\n".join(" ".join(step) for step in environment.steps)
    if marker.exists() and marker.read_text() == wanted:
        return python
    print(f"installing {environment.name} into {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if environment.torch:
        _link_torch(folder)
    for step in environment.steps:
        _pip(python, step)
    marker.write_text(wanted)
    return python


def variables(environment: Environment | None) -> Mapping[str, str]:
    """The environment variables of a method's process: one thread, and where torch's parts are."""
    found = {**os.environ, **ONE_THREAD}
    if environment is not None and environment.torch:
        root = _torch_folder()
        libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
        folders = (libraries / "openblas-pthread", libraries, root / "usr" / "lib")
        more = root / "lib" / "x86_64-linux-gnu"
        found["LD_LIBRARY_PATH"] = ":".join(map(str, (*folders, more)))
    return found


def _pip(python: Path, arguments: Sequence[str]) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *arguments], check=True)


def _torch_folder() -> Path:
    return cache_folder() / "torch"


def _link_torch(folder: Path) -> None:
    """Debian's torch is built for the system's Python 3.11; the environment must be that too."""
    source = _torch_folder() / "usr" / "lib" / "python3" / "dist-packages" / "torch"
    if not source.exists():
        _unpack_torch()
    (packages,) = (folder / "lib").glob("python3.*/site-packages")
    link = packages / "torch"
    if not link.exists():
        link.symlink_to(source)


def _unpack_torch() -> None:
    """150 MB of packages; with OpenBLAS, as the reference BLAS that torch needs is far slower."""
    archives = cache_folder() / "debs"
    archives.mkdir(parents=True, exist_ok=True)
    plan = subprocess.run(
        ["apt-get", "install", "--print-uris", "--yes", "--no-install-recommends",
         "python3-torch", "libopenblas0-pthread"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    names = re.findall(r"^'\S+' ([^_\s]+)_", plan.stdout, flags=re.MULTILINE)
    subprocess.run(["apt-get", "download", "--quiet", *names], cwd=archives, check=True)
    for archive in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(archive), str(_torch_folder())], check=True)
