# SPDX-License-Identifier: Apache-2.0
"""The webhook configurations of an installation, as data. Pure.

Tests register what is made here; the manifests of `deploy/` say the same. Pods are chosen by a
label that only the templates of trials' jobs carry, so that no other pod can ever be held up.
Experiments are let through while no webhook answers: the controller admits them itself then.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_controller.admission.collection import LABEL_COLLECT
from tunesmith_controller.ports import Json
from tunesmith_controller.webhook.server import (
    MUTATE_EXPERIMENTS,
    MUTATE_PODS,
    VALIDATE_EXPERIMENTS,
)

NAME: Final = "tunesmith.kubeflow.org"
"""Of both configurations."""
MUTATING: Final = "MutatingWebhookConfiguration"
VALIDATING: Final = "ValidatingWebhookConfiguration"
_TIMEOUT_S: Final = 5


@dataclass(frozen=True, slots=True)
class Reached:
    """How the API server reaches the webhooks: a Service, or a URL in tests. `only` is the one
    namespace that they are asked about, for a namespaced installation."""

    namespace: str = "kubeflow"
    service: str = "tunesmith-controller"
    url: str = ""
    only: str = ""


def webhook_configurations(reached: Reached, bundle: bytes = b"") -> list[Json]:
    """`bundle` are the authorities to trust, as PEM; without it they are put in later."""
    mutating = [
        _webhook("experiments.default", MUTATE_EXPERIMENTS, _EXPERIMENTS, reached, bundle),
        {
            **_webhook("pods", MUTATE_PODS, _PODS, reached, bundle),
            "failurePolicy": "Fail",
            "objectSelector": {"matchLabels": {LABEL_COLLECT: "true"}},
            "reinvocationPolicy": "IfNeeded",
        },
    ]
    validating = [
        _webhook("experiments.validate", VALIDATE_EXPERIMENTS, _EXPERIMENTS, reached, bundle)
    ]
    return [_configuration(MUTATING, mutating), _configuration(VALIDATING, validating)]


def with_bundle(configuration: Json, bundle: bytes) -> Json:
    """The configuration, trusting exactly these authorities."""
    text = base64.b64encode(bundle).decode()
    webhooks = [
        {**webhook, "clientConfig": {**webhook["clientConfig"], "caBundle": text}}
        for webhook in configuration.get("webhooks") or []
    ]
    return {**configuration, "webhooks": webhooks}


_EXPERIMENTS: Final[Mapping[str, Any]] = {
    "apiGroups": ["kubeflow.org"],
    "apiVersions": ["v1beta1"],
    "resources": ["experiments"],
    "operations": ["CREATE", "UPDATE"],
    "scope": "Namespaced",
}
_PODS: Final[Mapping[str, Any]] = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "resources": ["pods"],
    "operations": ["CREATE"],
    "scope": "Namespaced",
}


def _configuration(kind: str, webhooks: list[Json]) -> Json:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": NAME},
        "webhooks": webhooks,
    }


def _webhook(
    name: str, path: str, rule: Mapping[str, Any], reached: Reached, bundle: bytes
) -> dict[str, Any]:
    webhook: dict[str, Any] = {
        "name": f"{name}.{NAME}",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": _TIMEOUT_S,
        "failurePolicy": "Ignore",
        "clientConfig": _client(path, reached, bundle),
        "rules": [dict(rule)],
    }
    if reached.only:
        selected = {"kubernetes.io/metadata.name": reached.only}
        webhook["namespaceSelector"] = {"matchLabels": selected}
    return webhook


def _client(path: str, reached: Reached, bundle: bytes) -> Json:
    where: Json = {"url": f"{reached.url}{path}"}
    if not reached.url:
        service = {"namespace": reached.namespace, "name": reached.service}
        where = {"service": {**service, "path": path, "port": 443}}
    return {**where, **({"caBundle": base64.b64encode(bundle).decode()} if bundle else {})}
