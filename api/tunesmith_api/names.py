# SPDX-License-Identifier: Apache-2.0
"""Names, labels, annotations, finalizers: built and parsed here and nowhere else."""

from __future__ import annotations

import hashlib
import string
from typing import Final

LABEL_EXPERIMENT: Final = "katib.kubeflow.org/experiment"
LABEL_SUGGESTION: Final = "katib.kubeflow.org/suggestion"
LABEL_TRIAL: Final = "katib.kubeflow.org/trial"

FINALIZER_EXPERIMENT: Final = "update-prometheus-metrics"
"""Katib's finalizer on Experiments; kept by name for objects that come from Katib."""
FINALIZER_TRIAL: Final = "clean-metrics-in-db"
"""Katib's finalizer on Trials: rows and the job go before the object does."""

ANNOTATION_ORDINAL: Final = "tunesmith.dev/ordinal"
"""On a Trial: its number within the experiment, from 0."""
ANNOTATION_BATCH: Final = "tunesmith.dev/batch"
"""On a Trial: the recorded inputs of the batch that proposed it, as JSON."""
ANNOTATION_FOLDER: Final = "tunesmith.dev/folder"
"""On an Experiment: the folder of its file, where trials run on a laptop."""
ANNOTATION_PATH: Final = "tunesmith.dev/path"
"""On an Experiment: PATH of the submitter, its active environment first."""
ANNOTATION_SPEC_DIGEST: Final = "tunesmith.dev/spec-digest"
"""On an Experiment: names the spec that was submitted, to tell a changed file."""
ANNOTATION_PAUSED: Final = "tunesmith.dev/paused"
"""On an Experiment or a Trial: "true" while nothing of it may run; a running attempt is
interrupted, and a new one follows when the annotation goes."""
ANNOTATION_STOPPED: Final = "tunesmith.dev/stopped"
"""On an Experiment: "true" ends it now, in success, with what has been found."""
ANNOTATION_PARENT: Final = "tunesmith.dev/parent"
"""On a Trial: the uid of the Trial whose checkpoint directory it starts from."""

_DIGITS: Final = string.digits + string.ascii_lowercase
_SUFFIX: Final = 8
_MIN_ORDINAL: Final = 4
_MAX_ORDINAL: Final = 7


def base36(number: int) -> str:
    """Digits 0-9a-z of a non-negative number."""
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text or "0"


def trial_name(experiment: str, experiment_uid: str, ordinal: int) -> str:
    """`<experiment>-<eight base-36 characters>`, without collision within an experiment.

    The characters are a uid part and the ordinal in four to seven digits; the first character
    also tells how many, so that a longer ordinal can never look like a shorter one behind another
    uid part.
    """
    if not 0 <= ordinal < 36**_MAX_ORDINAL:
        raise ValueError(f"ordinal {ordinal} is not in [0, 36**{_MAX_ORDINAL})")
    digits = base36(ordinal).rjust(_MIN_ORDINAL, "0")
    hashed = int.from_bytes(hashlib.sha256(experiment_uid.encode()).digest()[:8], "big")
    widths = _MAX_ORDINAL - _MIN_ORDINAL + 1
    hashed, spread = divmod(hashed, len(_DIGITS) // widths)
    first = _DIGITS[spread * widths + len(digits) - _MIN_ORDINAL]
    filler = base36(hashed).rjust(_SUFFIX, "0")[-_SUFFIX:]
    return f"{experiment}-{first}{filler[: _SUFFIX - 1 - len(digits)]}{digits}"


def trial_ordinal(name: str) -> int | None:
    """The ordinal that a trial name of ours encodes; None for other names."""
    suffix = name.rpartition("-")[2]
    if len(suffix) != _SUFFIX or any(c not in _DIGITS for c in suffix):
        return None
    width = _DIGITS.index(suffix[0]) % (_MAX_ORDINAL - _MIN_ORDINAL + 1) + _MIN_ORDINAL
    return int(suffix[_SUFFIX - width :], 36)


def request_id(experiment_uid: str, first: int, count: int) -> str:
    """The identity of a suggestion request: the same id has the same inputs for ever."""
    return f"{experiment_uid}/{first}/{count}"
