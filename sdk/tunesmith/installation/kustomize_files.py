# SPDX-License-Identifier: Apache-2.0
"""Installations as folders for `kubectl apply -k`. To write them anew:
`python -m tunesmith.installation.kustomize_files deploy/kustomize`

The objects are those of `tunesmith install`; what all choices share is in `base`, what all share
that look after the whole cluster in `cluster-wide`. Choose the image
in a folder's kustomization.yaml: what is chosen there also becomes the collector's.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import yaml

from tunesmith.installation.manifests import manifests
from tunesmith.installation.options import CONTROLLER, IMAGE, Database, Installation, default_image

Json = dict[str, Any]

BASE: Final = "base"
CLUSTER_WIDE: Final = "cluster-wide"
EXTERNAL_URL: Final = "postgresql+pg8000://tunesmith@postgres.example.org:5432/tunesmith"
CHOICES: Final[Mapping[str, Installation]] = {
    "standalone-postgres": Installation(image=default_image()),
    "standalone-mysql": Installation(image=default_image(), database=Database.MYSQL),
    "external-db": Installation(
        image=default_image(), database=Database.EXTERNAL, database_url=EXTERNAL_URL
    ),
    "sqlite": Installation(image=default_image(), database=Database.SQLITE, replicas=1),
    "cert-manager": Installation(image=default_image(), cert_manager=True),
    "namespaced": Installation(image=default_image(), only="kubeflow"),
}
_HEAD: Final = (
    "# SPDX-License-Identifier: Apache-2.0\n"
    "# Made by tunesmith.installation.kustomize_files from what `tunesmith install` applies.\n"
)
_FILES: Final = {
    "Namespace": "namespace",
    "CustomResourceDefinition": "definitions",
    "ServiceAccount": "rights",
    "Role": "rights",
    "RoleBinding": "rights",
    "ClusterRole": "rights",
    "ClusterRoleBinding": "rights",
    "ConfigMap": "configuration",
    "Issuer": "certificates",
    "Certificate": "certificates",
    "MutatingWebhookConfiguration": "webhooks",
    "ValidatingWebhookConfiguration": "webhooks",
}
"""Where objects of a kind are; `workloads` for all others."""


def files() -> Mapping[str, str]:
    """Texts by path within the folder."""
    wanted = {name: manifests(choice) for name, choice in CHOICES.items()}
    shared = _common(list(wanted.values()))
    whole = _common([wanted[name] for name, choice in CHOICES.items() if choice.only is None])
    found = _folder(BASE, shared, [], {})
    found |= _folder(CLUSTER_WIDE, [each for each in whole if each not in shared], [BASE], {})
    for name, choice in CHOICES.items():
        below, there = (BASE, shared) if choice.only else (CLUSTER_WIDE, whole)
        own = [each for each in wanted[name] if each not in there]
        found |= _folder(name, own, [below], _image_of(own))
    return found


def _common(choices: Sequence[Sequence[Json]]) -> list[Json]:
    first, *others = choices
    return [each for each in first if all(each in other for other in others)]


def _image_of(objects: Sequence[Json]) -> Json:
    """The choice of an image, and that the controller puts the same one into trials' pods."""
    [controller] = [
        each
        for each in objects
        if each["kind"] == "Deployment" and each["metadata"]["name"] == CONTROLLER
    ]
    [container] = controller["spec"]["template"]["spec"]["containers"]
    place = container["args"].index("--image") + 1
    path = "spec.template.spec.containers.0"
    one = {"kind": "Deployment", "name": CONTROLLER}
    return {
        "images": [{"name": IMAGE, "newTag": container["image"].rpartition(":")[2]}],
        "replacements": [
            {
                "source": {**one, "fieldPath": f"{path}.image"},
                "targets": [{"select": one, "fieldPaths": [f"{path}.args.{place}"]}],
            }
        ],
    }


def _folder(name: str, objects: Sequence[Json], below: Sequence[str], more: Json) -> dict[str, str]:
    place = {id(each): _FILES.get(each["kind"], "workloads") for each in objects}
    order = sorted(objects, key=lambda each: place[id(each)])
    texts = {
        f"{name}/{file}.yaml": _text(*group)
        for file, group in groupby(order, lambda each: place[id(each)])
    }
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    own = [path.partition("/")[2] for path in texts]
    body = {**head, "resources": [*(f"../{each}" for each in below), *own], **more}
    return {f"{name}/kustomization.yaml": _text(body), **texts}


def _text(*objects: Json) -> str:
    return _HEAD + yaml.dump_all(objects, Dumper=_Whole, sort_keys=False, width=100)


class _Whole(yaml.SafeDumper):
    """Writes equal parts out: an alias is nothing that people read."""

    def ignore_aliases(self, data: object) -> bool:
        return True


if __name__ == "__main__":
    root = Path(sys.argv[1])
    for made in (BASE, CLUSTER_WIDE, *CHOICES):
        shutil.rmtree(root / made, ignore_errors=True)
    for path, text in files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
