# SPDX-License-Identifier: Apache-2.0
"""Katib's own Python models (PyPI kubeflow-katib-api) read what we write, field for field."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
import written
from command_line import CommandLine

from tunesmith_api.defaulting import default
from tunesmith_api.resources import Experiment, Node, Suggestion, Trial
from tunesmith_controller.embedded import LocalPlane

pytestmark = pytest.mark.oracle

VERSION = "0.19.0"
SCRIPT = Path(__file__).parent / "katib_models" / "parse.py"
TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# What tunesmith adds to Katib's schema; Katib's models leave it out.
OURS = {
    ("Experiment", "status", "progress"),
    ("Trial", "status", "run"),
    *(
        ("Suggestion", "status", field)
        for field in ("seed", "asking", "batches", "searchEnded", "suggestions.ordinal")
    ),
    ("Experiment", "spec", "runPolicy"),
    ("Experiment", "spec", "enqueued"),
    ("Trial", "spec", "activeDeadlineSeconds"),
    ("Suggestion", "status", "enqueuedTaken"),
}


@pytest.fixture(scope="module")
def katib_python() -> Path:
    """The interpreter of an environment with Katib's models, made once per machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "tunesmith-tests" / f"katib-api-{VERSION}"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            _install(home / "venv")
            (home / "complete").touch()
    return home / "venv" / "bin" / "python"


def _install(folder: Path) -> None:
    package = f"kubeflow-katib-api=={VERSION}"
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", package],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode:
            absent = f"cannot install {package}: {done.stderr[-500:]}"
            if os.environ.get("CI") == "true":
                pytest.fail(absent)
            pytest.skip(absent)


# ---- objects ------------------------------------------------------------------------------------


def filled(model: type[Node]) -> dict[str, Any]:
    """A value for every field of a model, and of the models below it."""
    return {
        info.alias or name: _example(info.annotation, info.alias or name)
        for name, info in model.model_fields.items()
    }


def _example(annotation: Any, name: str) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _example(next(a for a in arguments if a is not type(None)), name)
    if origin is tuple:
        return [_example(arguments[0], name)] * 2
    if origin is dict:
        return {"a.b/c": "d"} if arguments[1] is not Any else {"free": [1, {"form": None}]}
    if hasattr(annotation, "__metadata__"):
        return _example(arguments[0], name)
    if isinstance(annotation, type) and issubclass(annotation, Node):
        return filled(annotation)
    return {str: f"a {name}", int: 7, float: 0.5, bool: True, datetime: TIME.isoformat()}[
        annotation
    ]


def complete(model: type[Experiment | Trial | Suggestion]) -> Any:
    """An object of ours in which every field of resources.py is set."""
    given = filled(model)
    given |= {"apiVersion": "kubeflow.org/v1beta1", "kind": model.__name__}
    if model is Experiment:
        # Katib's model of a container wants its name; a port is a number or a text.
        source = given["spec"]["metricsCollectorSpec"]
        source["collector"]["customCollector"] = {"name": "main", "image": "a", "args": ["b"]}
        source["source"]["httpGet"] = {"path": "/metrics", "port": 8080}
    if model is Trial:
        source = given["spec"]["metricsCollector"]
        source["collector"]["customCollector"] = {"name": "main", "image": "a", "args": ["b"]}
        source["source"]["httpGet"] = {"path": "/metrics", "port": "8080"}
    return model.parse(given)


def numbers_for_texts() -> Experiment:
    """An Experiment whose author wrote numbers; the models write texts."""
    given = written.bent(
        ("spec", "parameters", 0, "feasibleSpace"), {"min": 0.001, "max": 1, "step": 0.001}
    )
    settings = [{"name": "random_state", "value": 3}]
    return Experiment.parse(
        default(written.bent(("spec", "algorithm", "algorithmSettings"), settings, given))
    )


def sent_by_katibs_sdk() -> Experiment:
    space = {"distribution": ["sgd", "adam"]}
    return Experiment.parse(
        default(written.bent(("spec", "parameters", 3, "feasibleSpace"), space))
    )


OBJECTS: dict[str, Node] = {
    "every field of an Experiment": complete(Experiment),
    "every field of a Trial": complete(Trial),
    "every field of a Suggestion": complete(Suggestion),
    "a defaulted Experiment": Experiment.parse(default(written.experiment())),
    "numbers for texts": numbers_for_texts(),
    "a list as distribution": sent_by_katibs_sdk(),
    "an empty Trial": Trial.parse({"apiVersion": "kubeflow.org/v1beta1", "kind": "Trial"}),
}


# ---- the comparison -----------------------------------------------------------------------------


def katibs_part(given: Any) -> Any:
    """Our JSON without what tunesmith adds."""
    part = json.loads(json.dumps(given))
    for kind, *path in OURS:
        if part["kind"] != kind:
            continue
        status = part.get(path[0], {})
        if "." not in path[1]:
            status.pop(path[1], None)
        for item in status.get(path[1].partition(".")[0], []) if "." in path[1] else []:
            item.pop(path[1].partition(".")[2], None)
    return part


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict | list) and tree:
        for key, child in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(child, f"{path}.{key}")
    else:
        yield path, json.dumps(tree)


def kept_by_katib(python: Path, ours: Sequence[Any]) -> list[Any]:
    """The objects as Katib's models give them back."""
    done = subprocess.run(
        [python, "-I", SCRIPT],
        input="".join(json.dumps(given) + "\n" for given in ours),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def lost_fields(given: Any, found: Any) -> list[tuple[str, str]]:
    """Katib's fields of ours that its models dropped or changed."""
    return sorted(dict(leaves(katibs_part(given))).items() - dict(leaves(found)).items())


def test_every_katib_field_survives_katibs_models(katib_python: Path) -> None:
    ours = [node.json() for node in OBJECTS.values()]
    kept = kept_by_katib(katib_python, ours)
    assert len(kept) == len(ours)
    for name, given, found in zip(OBJECTS, ours, kept, strict=True):
        assert not lost_fields(given, found), name


def test_the_objects_of_a_real_run_survive_them_too(katib_python: Path, tmp_path: Path) -> None:
    cli = CommandLine(tmp_path, tmp_path / "home")
    cli.experiment("real", ["sh", "-c", "echo loss=0.5"])
    assert cli.run("run", "real.yaml").returncode == 0
    ours = asyncio.run(stored_objects(cli.home))
    assert [given["kind"] for given in ours] == ["Experiment", "Suggestion", *["Trial"] * 4]
    for given, found in zip(ours, kept_by_katib(katib_python, ours), strict=True):
        assert not lost_fields(given, found), given["kind"]


async def stored_objects(home: Path) -> list[Any]:
    async with LocalPlane.open(home) as plane:
        kinds = ("Experiment", "Suggestion", "Trial")
        return [obj for kind in kinds for obj in (await plane.store.list(kind)).items]


@pytest.mark.parametrize("model", [Experiment, Trial, Suggestion])
def test_the_complete_objects_set_every_field(model: type[Node]) -> None:
    """So that a field that is added to resources.py is compared too."""
    text = complete(model).json()  # type: ignore[arg-type]

    assert set(text["status"]) == {i.alias for i in _of(model, "status").model_fields.values()}
    assert set(text["spec"]) == {i.alias for i in _of(model, "spec").model_fields.values()}


def _of(model: type[Node], name: str) -> type[Node]:
    found = model.model_fields[name].annotation
    assert isinstance(found, type)
    assert issubclass(found, Node)
    return found
