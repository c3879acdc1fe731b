# SPDX-License-Identifier: Apache-2.0
"""Exactly the rights that each part needs, as RBAC objects. Pure; `doctor` asks for the same.

Rights on kinds of jobs are in a ClusterRole of their own, which collects what carries the label
tunesmith.dev/trial-kinds: whoever wants trials of another kind adds a ClusterRole with that label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
KINDS_LABEL: Final = "tunesmith.dev/trial-kinds"
WEBHOOKS: Final = "tunesmith.kubeflow.org"
_SECRETS: Final = (
    "tunesmith-ca",
    f"{CONTROLLER}-tls",
    f"{OBSERVATION}-tls",
    f"{SUGGESTION}-tls",
)


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
_OURS: Final = ("experiments", "suggestions", "trials")
TRIALS: Final = (
    Right(
        "kubeflow.org",
        _OURS,
        ("get", "list", "watch", "create", "update", "patch", "delete"),
    ),
    Right("kubeflow.org", tuple(f"{kind}/status" for kind in _OURS), ("update", "patch")),
    Right("", ("pods",), ("get", "list", "watch")),
    Right("", ("pods/log",), ("get",)),
    Right("", ("events",), ("get", "list", "create", "patch")),
    Right("", ("configmaps",), ("get", "list", "watch", "create", "update")),
    Right("", ("serviceaccounts",), ("get",)),
    Right("", ("services", "persistentvolumeclaims"), ("get", "list", "create", "delete")),
    Right("apps", ("deployments",), _RUN),
)
"""Of the controller, wherever there are experiments."""

CLUSTER: Final = (
    Right("", ("persistentvolumes",), ("get", "create", "delete")),
    Right(
        "admissionregistration.k8s.io",
        ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
        ("get", "update"),
        (WEBHOOKS,),
    ),
)
"""Of the controller, beyond namespaces."""

HOME: Final = (
    Right("coordination.k8s.io", ("leases",), ("get", "list", "watch", "create", "update")),
    Right("", ("secrets",), ("create",)),
    Right("", ("secrets",), ("get", "update"), _SECRETS),
    Right("", ("configmaps",), ("get", "list", "create", "update")),
)
"""Of the controller, where it is installed."""

REVIEWS: Final = (Right("authentication.k8s.io", ("tokenreviews",), ("create",)),)
"""Of whoever asks who calls."""

CALLERS: Final = (
    Right("", ("pods",), ("get", "list")),
    Right("kubeflow.org", ("trials",), ("get", "list")),
    *(Right(each.group, each.resources, ("get",)) for each in KNOWN_KINDS),
    Right("jobset.x-k8s.io", ("jobsets",), ("get",)),
)
"""Of the observation service: from a pod to its trial."""


def rights(installation: Installation) -> Iterator[Json]:
    """Roles and who has them."""
    home, only = installation.namespace, installation.only
    yield from _granted(CONTROLLER, f"{CONTROLLER}-home", HOME, home, home)
    yield from _granted(CONTROLLER, CONTROLLER, TRIALS, home, only)
    if only is None:
        yield from _granted(CONTROLLER, f"{CONTROLLER}-cluster", CLUSTER, home, None)
    yield from _kinds(home, only)
    yield from _granted(OBSERVATION, OBSERVATION, CALLERS, home, only)
    for part in (OBSERVATION, SUGGESTION):
        # Only in the whole cluster can anybody be asked who a token is.
        yield from _granted(part, f"{part}-reviews", REVIEWS, home, None)


def _granted(
    account: str, name: str, wanted: Sequence[Right], home: str, where: str | None
) -> Iterator[Json]:
    """A role and its binding: in a namespace, or everywhere."""
    kind = "Role" if where else "ClusterRole"
    name = name if where else f"{name}-{home}"
    metadata = {"name": name, "labels": PART_OF, **({"namespace": where} if where else {})}
    head = {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata}
    yield {**head, "rules": [right.rule() for right in wanted]}
    yield _binding(account, name, kind, home, where)


def _kinds(home: str, only: str | None) -> Iterator[Json]:
    label = {KINDS_LABEL: "true"}
    role = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole"}
    yield {
        **role,
        "metadata": {"name": KINDS, "labels": PART_OF},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": label}]},
    }
    yield {
        **role,
        "metadata": {"name": f"{KINDS}-known", "labels": {**PART_OF, **label}},
        "rules": [right.rule() for right in KNOWN_KINDS],
    }
    yield _binding(CONTROLLER, KINDS, "ClusterRole", home, only)


def _binding(account: str, role: str, kind: str, home: str, where: str | None) -> Json:
    suffix = "" if where or role.endswith(home) else f"-{home}"
    metadata = {
        "name": f"{role}{suffix}",
        "labels": PART_OF,
        **({"namespace": where} if where else {}),
    }
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding" if where else "ClusterRoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "namespace": home, "name": account}],
    }
