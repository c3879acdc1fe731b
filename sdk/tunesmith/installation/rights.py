# SPDX-License-Identifier: Apache-2.0
"""Exactly the rights that each part needs, as RBAC objects. Pure; `doctor` asks for the same.

Rights on kinds of jobs are in two ClusterRoles that collect what carries their labels. Whoever
wants trials of another kind adds a ClusterRole with the label tunesmith.dev/trial-kinds (the
controller runs the job: get, list, watch, create, delete), and one with
tunesmith.dev/trial-owners (the observation service follows a pod's owners: get).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tunesmith.installation.options import (
    CONTROLLER,
    OBSERVATION,
    PART_OF,
    SUGGESTION,
    Installation,
)

Json = dict[str, Any]

RBAC: Final = "rbac.authorization.k8s.io"
KINDS: Final = "tunesmith-trial-kinds"
OWNERS: Final = "tunesmith-trial-owners"
KINDS_LABEL: Final = "tunesmith.dev/trial-kinds"
OWNERS_LABEL: Final = "tunesmith.dev/trial-owners"
WEBHOOKS: Final = "tunesmith.kubeflow.org"
SECRETS: Final = (
    "tunesmith-ca",
    f"{CONTROLLER}-tls",
    f"{OBSERVATION}-tls",
    f"{SUGGESTION}-tls",
)
"""That the controller keeps, where it is installed."""


@dataclass(frozen=True, slots=True)
class Right:
    """`names`: only these objects; none for all."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    def rule(self) -> Json:
        rule: Json = {
            "apiGroups": [self.group],
            "resources": list(self.resources),
            "verbs": list(self.verbs),
        }
        return {**rule, **({"resourceNames": list(self.names)} if self.names else {})}


@dataclass(frozen=True, slots=True)
class Grant:
    """Who has which rights. where: the namespace, None for the whole cluster."""

    account: str
    role: str
    rights: tuple[Right, ...]
    where: str | None


_RUN: Final = ("get", "list", "watch", "create", "delete")
KNOWN_KINDS: Final = (
    Right("batch", ("jobs",), _RUN),
    Right(
        "kubeflow.org",
        ("jaxjobs", "mpijobs", "paddlejobs", "pytorchjobs", "tfjobs", "xgboostjobs"),
        _RUN,
    ),
    Right("trainer.kubeflow.org", ("trainjobs",), _RUN),
)
KNOWN_OWNERS: Final = (
    *(Right(each.group, each.resources, ("get",)) for each in KNOWN_KINDS),
    Right("jobset.x-k8s.io", ("jobsets",), ("get",)),
)
TRIALS: Final = (
    Right("kubeflow.org", ("experiments",), ("get", "list", "watch", "update")),
    Right("kubeflow.org", ("suggestions",), ("get", "list", "watch", "create", "patch")),
    Right("kubeflow.org", ("trials",), ("get", "list", "watch", "create", "update", "patch")),
    Right(
        "kubeflow.org",
        ("experiments/status", "suggestions/status", "trials/status"),
        ("update",),
    ),
    Right("", ("pods",), ("list", "watch")),
    Right("", ("pods/log",), ("get",)),
    Right("", ("events",), ("get", "list", "create", "patch")),
    Right("", ("configmaps",), ("get", "list", "create", "update")),
    Right("", ("services",), ("get", "create", "delete")),
    Right("", ("persistentvolumeclaims",), ("get", "create")),
    Right("apps", ("deployments",), _RUN),
)
"""Of the controller, wherever there are experiments."""

CLUSTER: Final = (
    Right("", ("persistentvolumes",), ("get", "create")),
    Right(
        "admissionregistration.k8s.io",
        ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
        ("get", "update"),
        (WEBHOOKS,),
    ),
)
"""Of the controller, beyond namespaces."""

HOME: Final = (
    Right("coordination.k8s.io", ("leases",), ("create",)),
    Right("coordination.k8s.io", ("leases",), ("get", "update"), (CONTROLLER,)),
    Right("", ("secrets",), ("create",)),
    Right("", ("secrets",), ("get", "update"), SECRETS),
    Right("", ("configmaps",), ("get", "list", "create", "update")),
)
"""Of the controller, where it is installed."""

REVIEWS: Final = (Right("authentication.k8s.io", ("tokenreviews",), ("create",)),)
"""Of whoever asks who calls."""

CALLERS: Final = (
    Right("", ("pods",), ("get", "list")),
    Right("kubeflow.org", ("trials",), ("get",)),
)
"""Of the observation service: from a pod to its trial."""


def grants(installation: Installation) -> list[Grant]:
    """Everybody's, those on kinds of jobs too."""
    home, only = installation.namespace, installation.only
    return [*_own(home, only), *_of_kinds(only)]


def _own(home: str, only: str | None) -> list[Grant]:
    return [
        Grant(CONTROLLER, f"{CONTROLLER}-home", HOME, home),
        Grant(CONTROLLER, CONTROLLER, TRIALS, only),
        *(() if only else (Grant(CONTROLLER, f"{CONTROLLER}-cluster", CLUSTER, None),)),
        Grant(OBSERVATION, OBSERVATION, CALLERS, only),
        # Only in the whole cluster can anybody be asked who a token is.
        *(Grant(part, f"{part}-reviews", REVIEWS, None) for part in (OBSERVATION, SUGGESTION)),
    ]


def _of_kinds(only: str | None) -> list[Grant]:
    return [
        Grant(CONTROLLER, KINDS, KNOWN_KINDS, only),
        Grant(OBSERVATION, OWNERS, KNOWN_OWNERS, only),
    ]


def rights(installation: Installation) -> Iterator[Json]:
    """Roles and who has them."""
    home = installation.namespace
    for grant in _own(home, installation.only):
        yield from _granted(grant, home)
    for grant in _of_kinds(installation.only):
        yield _binding(grant, grant.role, "ClusterRole", home)


def kinds_of_trials() -> Iterator[Json]:
    """What all installations of a cluster share; it gives nobody anything by itself."""
    for name, label, known in (
        (KINDS, KINDS_LABEL, KNOWN_KINDS),
        (OWNERS, OWNERS_LABEL, KNOWN_OWNERS),
    ):
        labelled = {label: "true"}
        role = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole"}
        yield {
            **role,
            "metadata": {"name": name, "labels": PART_OF},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": labelled}]},
        }
        yield {
            **role,
            "metadata": {"name": f"{name}-known", "labels": {**PART_OF, **labelled}},
            "rules": [right.rule() for right in known],
        }


def _granted(grant: Grant, home: str) -> Iterator[Json]:
    """A role and its binding: in a namespace, or everywhere."""
    kind = "Role" if grant.where else "ClusterRole"
    name = grant.role if grant.where else f"{grant.role}-{home}"
    metadata = _metadata(name, grant.where)
    head = {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata}
    yield {**head, "rules": [right.rule() for right in grant.rights]}
    yield _binding(grant, name, kind, home)


def _binding(grant: Grant, role: str, kind: str, home: str) -> Json:
    name = grant.role if grant.where else f"{grant.role}-{home}"
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding" if grant.where else "ClusterRoleBinding",
        "metadata": _metadata(name, grant.where),
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "namespace": home, "name": grant.account}],
    }


def _metadata(name: str, namespace: str | None) -> Json:
    found: Json = {"name": name, "labels": PART_OF}
    return {**found, "namespace": namespace} if namespace else found
