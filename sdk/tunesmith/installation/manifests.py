# SPDX-License-Identifier: Apache-2.0
"""All objects of an installation, in the order in which they are applied. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import yaml

from tunesmith.installation.databases import database
from tunesmith.installation.options import (
    CONTROLLER,
    INSTANCE,
    OBSERVATION,
    PART_OF,
    PARTS,
    Installation,
)
from tunesmith.installation.rights import kinds_of_trials, rights
from tunesmith.installation.services import claim, deployments, labels, services
from tunesmith_api.crd import definitions
from tunesmith_controller import katib_config
from tunesmith_controller.webhook.authority import secret_of, service_names
from tunesmith_controller.webhook.configurations import NAME, Reached, webhook_configurations

Json = dict[str, Any]
_ISSUER: Final = "tunesmith"
ISSUED_AUTHORITY: Final = f"{_ISSUER}-authority"
"""The Secret with the authority that cert-manager makes."""


def manifests(installation: Installation) -> list[Json]:
    """Everything but the Secret with the database's password, which no file should hold."""
    shared = [
        _namespace(installation),
        *(_labelled(each) for each in definitions()),
        *kinds_of_trials(),
    ]
    return [*shared, *(_of_instance(installation, each) for each in _own(installation))]


def _own(installation: Installation) -> list[Json]:
    return [
        *(_account(installation, part) for part in PARTS),
        *rights(installation),
        _configuration(installation),
        *(_certificates(installation) if installation.cert_manager else ()),
        claim(installation, OBSERVATION),
        *database(installation),
        *services(installation),
        *deployments(installation),
        *_disruptions(installation),
        *(_webhooks(installation) if installation.has_webhooks else ()),
    ]


def _of_instance(installation: Installation, obj: Json) -> Json:
    metadata = obj["metadata"]
    kept = {**metadata["labels"], INSTANCE: installation.namespace}
    return {**obj, "metadata": {**metadata, "labels": kept}}


def _namespace(installation: Installation) -> Json:
    metadata = {"name": installation.namespace}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _labelled(definition: Json) -> Json:
    metadata = definition["metadata"]
    kept = {**(metadata.get("labels") or {}), **PART_OF}
    return {**definition, "metadata": {**metadata, "labels": kept}}


def _account(installation: Installation, part: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": part, "namespace": installation.namespace, "labels": labels(part)},
    }


def _configuration(installation: Installation) -> Json:
    """Katib's, and empty: our own algorithms need no entries. It is the place for images of other
    people's."""
    config: Json = {"apiVersion": katib_config.API_VERSION, "kind": katib_config.KIND}
    config |= {"init": {}, "runtime": {}}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": katib_config.CONFIG_MAP,
            "namespace": installation.namespace,
            "labels": PART_OF,
        },
        "data": {katib_config.DATA_KEY: yaml.safe_dump(config, sort_keys=False)},
    }


def _disruptions(installation: Installation) -> Iterator[Json]:
    """A drain leaves one controller."""
    if installation.replicas > 1:
        yield {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {
                "name": CONTROLLER,
                "namespace": installation.namespace,
                "labels": labels(CONTROLLER),
            },
            "spec": {"minAvailable": 1, "selector": {"matchLabels": labels(CONTROLLER)}},
        }


def _webhooks(installation: Installation) -> Iterator[Json]:
    inject = f"{installation.namespace}/{secret_of(CONTROLLER)}"
    for each in webhook_configurations(Reached(installation.namespace)):
        metadata: Json = {**each["metadata"], "labels": PART_OF}
        if installation.cert_manager:
            metadata["annotations"] = {"cert-manager.io/inject-ca-from": inject}
        yield {**each, "metadata": metadata}


def _certificates(installation: Installation) -> Iterator[Json]:
    """By cert-manager, from an authority of its own making for this installation."""
    namespace = installation.namespace
    head = {"apiVersion": "cert-manager.io/v1"}
    authority = {"name": f"{_ISSUER}-ca", "namespace": namespace, "labels": PART_OF}

    def issuer(name: str, spec: Json) -> Json:
        metadata = {**authority, "name": name}
        return {**head, "kind": "Issuer", "metadata": metadata, "spec": spec}

    yield issuer(f"{_ISSUER}-root", {"selfSigned": {}})
    yield {
        **head,
        "kind": "Certificate",
        "metadata": authority,
        "spec": {
            "isCA": True,
            "commonName": NAME,
            "secretName": ISSUED_AUTHORITY,
            "privateKey": {"algorithm": "ECDSA", "size": 256},
            "issuerRef": {"name": f"{_ISSUER}-root", "kind": "Issuer"},
        },
    }
    yield issuer(_ISSUER, {"ca": {"secretName": ISSUED_AUTHORITY}})
    for part in PARTS:
        yield {
            **head,
            "kind": "Certificate",
            "metadata": {**authority, "name": secret_of(part)},
            "spec": {
                "secretName": secret_of(part),
                "dnsNames": list(service_names(part, namespace)),
                "privateKey": {"algorithm": "ECDSA", "size": 256},
                "issuerRef": {"name": _ISSUER, "kind": "Issuer"},
            },
        }
