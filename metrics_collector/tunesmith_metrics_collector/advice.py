# SPDX-License-Identifier: Apache-2.0
"""What to tell a person whose trial of collector kind File or Push ended without its metric.

Pure; for the message of a Trial that is MetricsUnavailable.
"""

from __future__ import annotations

import json
from typing import Final

KATIB_ADDRESS: Final = "katib-db-manager.kubeflow:6789"
"""Where Katib's `report_metrics` sends to unless told otherwise."""

KATIB_NAMESPACE_FILE: Final = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
"""What it reads first, wherever it sends to: without this file it raises FileNotFoundError."""


def push_hint(metric: str, db_manager: str = "") -> str:
    """Why nothing came, probably, and what works. `db_manager`: HOST:PORT of a DBManager that this
    machine serves, empty without one."""
    address = db_manager or "HOST:PORT"
    server = "" if db_manager else " of `tunesmith serve --db-manager HOST:PORT`"
    return (
        "With collector kind Push only what the program reports counts, not what it prints or"
        f" writes. {_call(metric)} works everywhere. report_metrics of Katib's SDK reaches its"
        f" fixed address {KATIB_ADDRESS} only in a cluster; in a container of your own that has"
        f" the file {KATIB_NAMESPACE_FILE}, which it reads first, pass"
        f" db_manager_address='{address}'{server}."
    )


def file_hint(metric: str, path: str, form: str) -> str:
    """What a program that is read by the File collector should do."""
    line = json.dumps({metric: 0.93}) if form == "JSON" else f"{metric}=0.93"
    return f"Write it to {path} as a line `{line}`, or call {_call(metric)}."


def _call(metric: str) -> str:
    if metric.isidentifier():
        return f"tunesmith.report({metric}=0.93)"
    return f"tunesmith.report(**{{{metric!r}: 0.93}})"
