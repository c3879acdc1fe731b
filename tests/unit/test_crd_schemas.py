# SPDX-License-Identifier: Apache-2.0
"""The CustomResourceDefinitions: current, structural, and in step with the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api import resources
from tunesmith_api.crd import COLUMNS, definitions, schema
from tunesmith_api.crd_files import files
from tunesmith_api.crd_texts import TEXTS
from tunesmith_api.resources import Experiment, Suggestion, Trial

ROOTS = (Experiment, Suggestion, Trial)
FOLDER = Path(__file__).parents[2] / "deploy" / "crds"
KEPT = "x-kubernetes-preserve-unknown-fields"


def parts(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema and all below it."""
    yield found
    for below in found.get("properties", {}).values():
        yield from parts(below)
    for name in ("items", "additionalProperties"):
        if name in found:
            yield from parts(found[name])


def test_the_files_are_what_the_models_make() -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert there == files(), "stale: python -m tunesmith_api.crd_files deploy/crds"


@pytest.mark.parametrize("root", ROOTS)
def test_every_part_is_typed_or_takes_anything(root: Any) -> None:
    """What a structural schema is: the API server refuses others."""
    for part in parts(schema(root)):
        assert part.get("type") or part.get(KEPT)


@pytest.mark.parametrize("root", ROOTS)
def test_unknown_fields_are_kept_at_every_level_but_metadata(root: Any) -> None:
    for part in parts(schema(root)):
        if part.get("type") == "object" and "properties" in part:
            assert part[KEPT] is True


def test_every_text_belongs_to_a_field() -> None:
    for path in TEXTS:
        model, _, alias = path.partition(".")
        fields = getattr(resources, model).model_fields
        assert alias in {field.alias or name for name, field in fields.items()}, path


def test_katibs_columns_come_first_and_as_they_were() -> None:
    theirs = {"Experiment": "Type Status Age", "Trial": "Type Status Age"}
    theirs["Suggestion"] = "Type Status Requested Assigned Age"
    for kind, names in theirs.items():
        found = [column["name"] for column in COLUMNS[kind]]
        assert found[: len(names.split())] == names.split()


def test_kinds_are_found_by_katibs_categories_and_short_names_are_our_own() -> None:
    names = [found["spec"]["names"] for found in definitions()]
    assert all(each["categories"] == ["all", "kubeflow", "katib"] for each in names)
    short = [name for each in names for name in each["shortNames"]]
    assert len(set(short)) == len(short) == 3
