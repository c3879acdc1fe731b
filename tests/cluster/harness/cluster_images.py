# SPDX-License-Identifier: Apache-2.0
"""The images of the node tier, in layers that are made once and kept.

| layer | made of | made again when |
|---|---|---|
| base | Debian packages, by mmdebstrap | the list below changes |
| science, libraries | pip, what pyproject.toml names | its dependencies change |
| ours | this checkout's wheel and launcher | any change; a few seconds |
| numbers, pause | | |

`test.local/tunesmith:1` is what runs in a cluster, `test.local/python:1` what trials run in (bash,
Python, numpy, scipy, scikit-learn). Pods name them with imagePullPolicy IfNotPresent or Never.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cluster_programs import CLUSTER, cache
from image_archive import Image, Layer, architecture, seal

REPOSITORY = CLUSTER.parent.parent
TUNESMITH, PYTHON, PAUSE = "test.local/tunesmith:1", "test.local/python:1", "test.local/pause:1"
LAUNCHER = "usr/local/bin/tunesmith-launcher"
SUITE = "bookworm"
PACKAGES = ("python3", "ca-certificates", "procps")
INTERPRETER = "3.11"  # of that suite
SITE = f"usr/local/lib/python{INTERPRETER}/dist-packages"
_UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists")
_SCIENCE = re.compile(
    r"(numpy|scipy|sklearn|scikit_learn|joblib|cloudpickle|threadpoolctl|narwhals)\b.*"
)
_ENVIRONMENT = ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"]


def images() -> list[Image]:
    """All of them, made as far as they are not there. Minutes the first time, then seconds."""
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        base = _base(folder)
        science, libraries = _python_layers(folder, base)
        ours, pause = _ours(folder, base), _pause(folder)
    user = {"Env": _ENVIRONMENT, "User": "65532:65532", "WorkingDir": "/"}
    return [
        Image(PAUSE, (pause,), {"Entrypoint": ["/pause"]}),
        Image(PYTHON, (base, science), {"Env": _ENVIRONMENT, "Cmd": ["bash"]}),
        Image(TUNESMITH, (base, science, libraries, ours), user),
    ]


def debian(
    name: str, packages: Sequence[str], config: dict[str, Any], user: int | None = None
) -> Image:
    """An image of Debian packages for one lane, say a database; `config` as in OCI's image. `user`:
    a uid that has a name there, which some programs ask for.

    About half a minute the first time; give it to a node with `node_tier.import_images`.
    """
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    kind = re.sub(r"[^a-z0-9]+", "-", name)
    with _alone(folder):
        return Image(name, (_base(folder, packages, kind, user),), {"Env": _ENVIRONMENT, **config})


def requirements(extras: tuple[str, ...] = ("cluster", "examples")) -> list[str]:
    """What pip installs for these extras of pyproject.toml, without this project itself."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    found: set[str] = set(project["dependencies"])
    open_extras = list(extras)
    while open_extras:
        for line in project["optional-dependencies"][open_extras.pop()]:
            of_ours = re.fullmatch(r"tunesmith\[(.*)\]", line)
            if of_ours:
                open_extras += of_ours[1].split(",")
            else:
                found.add(line)
    return sorted(found)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".making").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _kept(
    folder: Path, kind: str, recipe: Any, make: Callable[[Path], None], keep: int = 3
) -> Layer:
    """The layer that `make` writes to the path it is given, made once for each `recipe`.

    Of each kind the `keep` that were used last stay.
    """
    key = hashlib.sha256(json.dumps([recipe, architecture()]).encode()).hexdigest()[:16]
    path = folder / f"{kind}-{key}.tar"
    if path.exists():
        path.touch()
        return Layer.of(path)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".half-") as scratch:
        half = Path(scratch) / "layer.tar"
        make(half)
        layer = seal(half, path)
    for old in sorted(folder.glob(f"{kind}-*.tar"), key=lambda it: -it.stat().st_mtime)[keep:]:
        old.unlink()
        old.with_name(f"{old.name}.sha256").unlink(missing_ok=True)
    return layer


def _run(argv: list[str], **others: Any) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **others)
    if done.returncode != 0:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise RuntimeError(f"{' '.join(argv)}\nended with {done.returncode}:\n{end}")


def _base(
    folder: Path,
    packages: Sequence[str] = PACKAGES,
    kind: str = "base",
    user: int | None = None,
) -> Layer:
    options = ["--variant=minbase", f"--include={','.join(packages)}"]
    # The folders themselves stay: dpkg looks for them.
    hooks = [f'--customize-hook=find "$1"/{path} -mindepth 1 -delete' for path in _UNWANTED]
    if user is not None:
        hooks.append(f'--customize-hook=chroot "$1" useradd --uid {user} --no-create-home own')

    def make(out: Path) -> None:
        _run(["mmdebstrap", *options, *hooks, SUITE, str(out)])

    return _kept(folder, kind, [SUITE, options, hooks], make)


def _python_layers(folder: Path, base: Layer) -> tuple[Layer, Layer]:
    """(science, libraries): one installation in two layers, as trials need but the first."""
    wanted = requirements()
    recipe = [wanted, base.digest, _SCIENCE.pattern]
    with contextlib.ExitStack() as stack:
        root = functools.cache(lambda: stack.enter_context(_installed(folder, wanted, base)))

        def make(science: bool) -> Callable[[Path], None]:
            return lambda out: _pack_site(
                root(), out, lambda name: bool(_SCIENCE.fullmatch(name)) is science
            )

        return (
            _kept(folder, "science", recipe, make(science=True)),
            _kept(folder, "libraries", recipe, make(science=False)),
        )


@contextlib.contextmanager
def _installed(folder: Path, wanted: list[str], base: Layer) -> Iterator[Path]:
    """A root folder with the packages in it, byte-compiled."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".half-") as scratch:
        root = Path(scratch)
        site = root / SITE
        platforms = [f"manylinux_2_{glibc}_{os.uname().machine}" for glibc in (17, 28, 34, 36)]
        where = ["--target", str(site), "--only-binary=:all:", "--python-version", INTERPRETER]
        where += [word for name in platforms for word in ("--platform", name)]
        options = ["--quiet", "--no-compile", "--disable-pip-version-check"]
        _run([sys.executable, "-m", "pip", "install", *options, *where, *wanted])
        shutil.rmtree(site / "bin", ignore_errors=True)
        for tests in [*site.glob("*/**/tests"), *site.glob("*/**/test")]:
            if tests.parts[-2] != "numpy":  # numpy.testing imports some of it
                shutil.rmtree(tests, ignore_errors=True)
        _compile(root, base)
        yield root


def _compile(root: Path, base: Layer) -> None:
    """Byte-compiles for the image's own interpreter, as containers cannot write beside sources."""
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".base-") as unpacked:
        _run(["tar", "-C", unpacked, "-xf", str(base.path)])
        inside = "/mnt"
        script = 'mount --bind "$1" "$2/mnt" && chroot "$2" "${@:3}"'
        compiler = ["python3", "-m", "compileall", "-q", "-j0", "-s", inside, "-p", "/"]
        compiler += ["--invalidation-mode", "unchecked-hash", inside]
        # In a mount namespace of its own: the bind mount goes with the command.
        argv = ["unshare", "--mount", "--", "bash", "-c", script, "compile", str(root), unpacked]
        done = subprocess.run([*argv, *compiler], capture_output=True, text=True, check=False)
        if done.returncode not in {0, 1}:  # 1: some file of a library is no valid Python 3.11
            raise RuntimeError(f"compileall: {done.stderr or done.stdout}")


def _pack_site(root: Path, out: Path, wanted: Callable[[str], bool]) -> None:
    with tarfile.open(out, "w") as archive:
        for entry in sorted((root / SITE).iterdir()):
            if wanted(entry.name):
                archive.add(entry, f"{SITE}/{entry.name}", filter=_roots)


def _roots(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = 0
    entry.mode |= 0o444 | (0o111 if entry.isdir() else 0)
    return entry


def _ours(folder: Path, base: Layer) -> Layer:
    """This checkout's wheel and, where its sources are there, the launcher."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".half-") as scratch:
        root = Path(scratch)
        _unpack_wheel(root / "wheel", root / "root" / SITE)
        _write_command(root / "root")
        _build_launcher(root / "root" / LAUNCHER)
        recipe = [base.digest, *_digests(root / "root")]

        def make(out: Path) -> None:
            _compile(root / "root", base)
            with tarfile.open(out, "w") as archive:
                archive.add(root / "root/usr", "usr", filter=_roots)

        return _kept(folder, "ours", recipe, make, keep=16)


def _unpack_wheel(built: Path, site: Path) -> None:
    _run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)],
        cwd=REPOSITORY,
    )
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(site)  # noqa: S202 - built a moment ago from this checkout


def _write_command(root: Path) -> None:
    command = root / "usr/local/bin/tunesmith"
    command.parent.mkdir(parents=True)
    command.write_text(
        "#!/usr/bin/python3\nimport sys\n\nfrom tunesmith.cli import main\n\nsys.exit(main())\n"
    )
    command.chmod(0o755)


def _build_launcher(out: Path) -> None:
    sources = REPOSITORY / "metrics_collector/launcher"
    if sources.is_dir():
        _go_build(sources, out)


def _go_build(sources: Path, out: Path) -> None:
    flags = ["-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]
    _run(
        ["go", "build", "-C", str(sources), *flags, "-o", str(out), "."],
        env=os.environ | {"CGO_ENABLED": "0"},
    )


def _digests(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "RECORD"
    ]


def _pause(folder: Path) -> Layer:
    sources = CLUSTER / "tools/pause"

    def make(out: Path) -> None:
        _go_build(sources, out.with_name("pause"))
        with tarfile.open(out, "w") as archive:
            archive.add(out.with_name("pause"), "pause", filter=_roots)

    return _kept(folder, "pause", (sources / "main.go").read_text(), make)
