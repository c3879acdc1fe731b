# SPDX-License-Identifier: Apache-2.0
"""What is committed in deploy/ is what an installation applies and starts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith.installation.kustomize_files import CHOICES, files
from tunesmith.installation.manifests import manifests
from tunesmith_controller.admission.pods import INSTALLED

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = DEPLOY / "images" / "Dockerfile"


def test_the_committed_folders_are_those_that_are_made() -> None:
    root = DEPLOY / "kustomize"
    there = {str(f.relative_to(root)): f.read_text() for f in root.rglob("*.yaml")}
    assert there == files(), (
        "stale: python -m tunesmith.installation.kustomize_files deploy/kustomize"
    )


def test_no_folder_holds_a_secret() -> None:
    assert not any("kind: Secret" in text for text in files().values())


def rendered(folder: Path) -> dict[tuple[str, str, str], Any]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return by_name(yaml.safe_load_all(done.stdout))


def by_name(objects: Any) -> dict[tuple[str, str, str], Any]:
    plain = [json.loads(json.dumps(each)) for each in objects]
    return {
        (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in plain
    }


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine")
@pytest.mark.parametrize("choice", CHOICES)
def test_a_folder_renders_to_what_the_command_applies(choice: str) -> None:
    assert rendered(DEPLOY / "kustomize" / choice) == by_name(manifests(CHOICES[choice]))


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine")
def test_an_image_that_is_chosen_is_the_collectors_too(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "kustomize", tmp_path / "k")
    file = tmp_path / "k" / "sqlite" / "kustomization.yaml"
    body = yaml.safe_load(file.read_text())
    body["images"][0] |= {"newName": "registry.corp/tuning", "newTag": "7"}
    file.write_text(yaml.safe_dump(body))
    found = rendered(file.parent)
    controller = found["Deployment", "kubeflow", "tunesmith-controller"]
    [container] = controller["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.corp/tuning:7"
    assert container["args"][container["args"].index("--image") + 1] == "registry.corp/tuning:7"


# ---- the image ----------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


def test_the_image_runs_as_the_pods_say_and_has_what_they_start() -> None:
    stage = last_stage()
    assert ("USER", "65532:65532") in stage
    copied = [rest.split()[-1] for word, rest in stage if word == "COPY"]
    assert INSTALLED in copied
    [path] = [rest for word, rest in stage if word == "ENV"]
    assert path.startswith("PATH=/opt/tunesmith/bin:")
    for choice in CHOICES.values():
        for each in manifests(choice):
            if each["kind"] == "Deployment":
                pod = each["spec"]["template"]["spec"]
                assert pod["containers"][0]["command"][0] == "tunesmith"
                user = pod["securityContext"].get("runAsUser", 65532)
                assert user == 65532


def test_what_the_image_is_built_from_is_not_ignored() -> None:
    ignored = (DEPLOY.parent / ".dockerignore").read_text().split()
    needed = ("metrics_collector", "pyproject.toml", "README.md", "LICENSE", "sdk", "proto")
    assert not set(needed) & set(ignored)
    for name in needed:
        assert (DEPLOY.parent / name).exists()
