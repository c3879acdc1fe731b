# SPDX-License-Identifier: Apache-2.0
"""From a file or a mapping to an admissible Experiment, with line numbers for its faults."""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import Fault, InvalidExperiment, NotThere
from tunesmith.home import submitter_path
from tunesmith_api import experiment_file, names
from tunesmith_api.validation import FieldError, warnings
from tunesmith_controller.admission import local
from tunesmith_controller.ports import Json, Key

_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LoadedSource:
    """An Experiment as written, and where it came from."""

    name: str
    folder: Path
    experiment: Json
    line_of: Callable[[FieldError], int | None]
    config_maps: tuple[Json, ...] = ()
    """ConfigMaps of the same file, to be stored before it."""

    def template_source(self) -> Key | None:
        """The ConfigMap that the trial template is in; None for an inline template."""
        found: Any = self.experiment
        for part in ("spec", "trialTemplate", "configMap"):
            found = found.get(part) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping) or not isinstance(found.get("configMapName"), str):
            return None
        namespace = found.get("configMapNamespace") or self.experiment["metadata"]["namespace"]
        return Key("ConfigMap", str(namespace), found["configMapName"])

    def admit(self, stored: Json | None = None) -> Json:
        """With every default. `stored` is the ConfigMap of `template_source` where there is one;
        one of the same file wins. Raises InvalidExperiment."""
        known = [*self.config_maps, *([] if stored is None else [stored])]

        def config_map(namespace: str, name: str) -> Json | None:
            wanted = (namespace, name)
            return next((m for m in known if _address(m) == wanted), None)

        try:
            return local.admit(self.experiment, config_map=config_map)
        except local.Refused as refused:
            faults = [self._fault(error) for error in refused.errors]
            raise InvalidExperiment(self.name, faults) from None

    def warnings(self) -> tuple[Fault, ...]:
        return tuple(self._fault(error) for error in warnings(self.experiment))

    def _fault(self, error: FieldError) -> Fault:
        return Fault(error.field, error.message, error.hint, self.line_of(error))

    def annotated(self, stored: Json | None = None) -> Json:
        """The object to submit: admitted, with the folder, the PATH and the digest of its spec.
        Raises InvalidExperiment."""
        experiment = copy.deepcopy(self.admit(stored))
        digest = spec_digest(experiment)
        metadata = experiment["metadata"]
        metadata["annotations"] = {
            **(metadata.get("annotations") or {}),
            names.ANNOTATION_FOLDER: str(self.folder),
            names.ANNOTATION_PATH: submitter_path(),
            names.ANNOTATION_SPEC_DIGEST: digest,
        }
        return experiment


def _address(config_map: Json) -> tuple[str, str]:
    metadata = config_map["metadata"]
    return metadata["namespace"], metadata["name"]


def spec_digest(experiment: Json) -> str:
    """Names the spec of an admitted Experiment."""
    canonical = json.dumps(experiment.get("spec"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def load(
    source: str | Path | Mapping[str, Any], forced_namespace: str | None, namespace: str
) -> LoadedSource:
    """Reads a file (Path or str; "-" is the standard input) or takes a mapping.

    forced_namespace wins over the object's own, `namespace` is used where it has none. Raises
    NotThere, InvalidExperiment.
    """
    loaded = _from_mapping(source) if isinstance(source, Mapping) else _from_file(Path(source))
    for obj in (loaded.experiment, *loaded.config_maps):
        metadata = obj.setdefault("metadata", {})
        if isinstance(metadata, dict):
            metadata["namespace"] = forced_namespace or metadata.get("namespace") or namespace
    return loaded


def _from_mapping(source: Mapping[str, Any]) -> LoadedSource:
    experiment = copy.deepcopy(dict(source))
    return LoadedSource("experiment", Path.cwd(), experiment, lambda error: None)


def _from_file(path: Path) -> LoadedSource:
    stdin = str(path) == "-"
    name = "standard input" if stdin else str(path)
    loaded = _parse(name, _read_stdin() if stdin else _read(path))
    folder = Path.cwd() if stdin else path.absolute().parent
    experiment = loaded.experiment
    return LoadedSource(
        name,
        folder,
        experiment.object,
        lambda error: experiment.line_of(error.path),
        tuple(found.object for found in loaded.config_maps),
    )


def _read_stdin() -> str:
    return _decode("standard input", sys.stdin.buffer.read(_MAX_BYTES + 1))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotThere("file", str(path), _similar(path), "tunesmith run --help") from None
    except IsADirectoryError:
        raise InvalidExperiment(str(path), [Fault("", _directory(path))]) from None
    except OSError as error:
        raise InvalidExperiment(
            str(path), [Fault("", f"cannot be read: {error.strerror}")]
        ) from None
    return _decode(str(path), data)


def _similar(path: Path) -> list[str]:
    """Files beside a missing one that were perhaps meant."""
    near = difflib.get_close_matches(path.name, _files(path.parent))
    return [str(path.with_name(name)) for name in near]


def _directory(path: Path) -> str:
    files = ", ".join(str(path / name) for name in _files(path)[:3])
    return "is a directory" + (f"; it holds {files}" if files else "")


def _files(folder: Path) -> list[str]:
    try:
        return sorted(p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml", ".json"))
    except OSError:
        return []


def _decode(name: str, data: bytes) -> str:
    if len(data) > _MAX_BYTES:
        raise InvalidExperiment(name, [Fault("", "is larger than 1 MiB")])
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        fault = Fault("", f"is not UTF-8 text (byte {error.start})")
        raise InvalidExperiment(name, [fault]) from None


def _parse(name: str, text: str) -> experiment_file.LoadedFile:
    try:
        return experiment_file.load_all(text, name)
    except experiment_file.FileError as error:
        raise InvalidExperiment(name, [Fault("", str(error), "", error.line)]) from None
