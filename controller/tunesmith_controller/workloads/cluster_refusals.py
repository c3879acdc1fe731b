# SPDX-License-Identifier: Apache-2.0
"""What a cluster's refusal to do something with a job means, as a sentence for people. Pure."""

from __future__ import annotations

import re
from typing import Final

_RIGHTS: Final = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" '
    r'in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]+)")?'
)
_ACCOUNT: Final = "system:serviceaccount:"
JOB_VERBS: Final = ("get", "list", "watch", "create", "delete")
"""What the controller does with a trial's job."""


def refusal(message: str) -> str:
    """For a 403: whose rights lack what, else what the server says, which names a quota or an
    admission rule itself."""
    found = _RIGHTS.search(message)
    if found is None:
        return message
    group = found["group"]
    where = f" in namespace {found['namespace']}" if found["namespace"] else " in all namespaces"
    verbs = ", ".join(dict.fromkeys((*JOB_VERBS, found["verb"])))
    return (
        f"{_who(found['user'])} may not {found['verb']} {found['resource']} of API group "
        f"{group or 'core (empty)'}{where}: add to its role the rule "
        f'apiGroups: ["{group}"], resources: ["{found["resource"]}"], verbs: [{verbs}]'
    )


def _who(user: str) -> str:
    if not user.startswith(_ACCOUNT):
        return f"the user {user}"
    namespace, _, name = user.removeprefix(_ACCOUNT).partition(":")
    return f"the controller's service account {namespace}/{name}"
