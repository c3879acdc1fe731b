# SPDX-License-Identifier: Apache-2.0
"""Katib's kinds without a schema, as Katib itself installs them: for tests that are not about
schemas."""

from __future__ import annotations

from typing import Any

GROUP = "kubeflow.org"
VERSION = "v1beta1"
KINDS = ("Experiment", "Suggestion", "Trial")


def definition(kind: str) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }
