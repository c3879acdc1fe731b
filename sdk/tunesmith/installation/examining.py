# SPDX-License-Identifier: Apache-2.0
"""Looks an installation over, as `tunesmith doctor` does: each thing that has to be right, and what
to do where it is not. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tunesmith.installation.checks_of_cluster import (
    check_definitions,
    check_katib,
    check_kinds,
    check_others,
    check_storage,
    check_version,
)
from tunesmith.installation.checks_of_parts import (
    check_certificates,
    check_configuration,
    check_images,
    check_lease,
    check_services,
    check_webhooks,
    check_workloads,
)
from tunesmith.installation.checks_of_rights import check_rights
from tunesmith.installation.cluster_objects import ClusterObjects
from tunesmith.installation.existing import installed
from tunesmith.installation.findings import Check, Finding
from tunesmith.installation.katib_rows import check_import
from tunesmith.installation.options import Installation
from tunesmith_controller.ports import PortError

_FIRST: Final[Sequence[Check]] = (check_version, check_katib, check_others, check_definitions)
_CHECKS: Final[Sequence[Check]] = (
    check_rights,
    check_storage,
    check_workloads,
    check_services,
    check_images,
    check_certificates,
    check_webhooks,
    check_lease,
    check_configuration,
    check_kinds,
    check_import,
)


async def examine(objects: ClusterObjects, namespace: str) -> list[Finding]:
    """In the order in which a fault hinders what follows. What nobody installed is said once.
    Raises PortErrors when the API itself cannot be asked."""
    there = await installed(objects, namespace)
    found = await _looked(objects, there or Installation(namespace), _FIRST)
    if there is None:
        fault = f"there is no installation in namespace {namespace}"
        return [*found, Finding("tunesmith", "", fault, f"tunesmith install -n {namespace}")]
    return [*found, *await _looked(objects, there, _CHECKS)]


async def _looked(
    objects: ClusterObjects, there: Installation, checks: Sequence[Check]
) -> list[Finding]:
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += [each async for each in check(objects, there)]
        except PortError as error:
            subject = check.__name__.removeprefix("check_").replace("_", " ")
            whoami = "kubectl auth whoami"
            findings.append(Finding(subject, "", f"it cannot be looked at: {error}", whoami))
    return findings
