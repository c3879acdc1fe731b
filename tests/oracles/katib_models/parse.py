# SPDX-License-Identifier: Apache-2.0
"""Reads objects, one JSON a line, into Katib's own models and writes what they kept, in order.

Run by test_katib_models_parse_ours.py with the interpreter of an environment that holds
kubeflow-katib-api and nothing of ours.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

from kubeflow_katib_api import models  # type: ignore[import-not-found]

MODELS: dict[str, Any] = {
    "Experiment": models.V1beta1Experiment,
    "Trial": models.V1beta1Trial,
    "Suggestion": models.V1beta1Suggestion,
}


def text_of(value: object) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    raise TypeError(f"{value!r} is no JSON")


for line in sys.stdin:
    given = json.loads(line)
    kept = MODELS[given["kind"]].from_dict(given).to_dict()
    print(json.dumps(kept, default=text_of), flush=True)
