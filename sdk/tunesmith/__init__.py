# SPDX-License-Identifier: Apache-2.0
"""What a user imports: `tunesmith.Client`, the errors, and for training code `tunesmith.report`,
`checkpoint_dir` and `should_stop`.

Importing this is cheap on purpose (training code does it): everything else is loaded when it is
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.client import Client
    from tunesmith.errors import (
        ChangedExperiment,
        InvalidExperiment,
        NotPossible,
        NotThere,
        StateUnusable,
        TunesmithError,
    )

    def report(step: int | None = None, *, all_ranks: bool = False, **metrics: float) -> None:
        """Reports metrics of the running trial; prints them outside of one."""

    def checkpoint_dir() -> Path:
        """The directory that all attempts of the trial share; outside of one, a local one."""

    def should_stop() -> bool:
        """Whether the trial was asked to end; False outside of one."""


__all__ = [
    "ChangedExperiment",
    "Client",
    "InvalidExperiment",
    "NotPossible",
    "NotThere",
    "StateUnusable",
    "TunesmithError",
    "checkpoint_dir",
    "report",
    "should_stop",
]

_FOR_TRIALS = ("checkpoint_dir", "report", "should_stop")


def __getattr__(name: str) -> Any:
    if name in _FOR_TRIALS:
        return getattr(_helper(), name)
    if name == "Client":
        from tunesmith.client import Client  # noqa: PLC0415

        return Client
    if name in __all__:
        from tunesmith import errors  # noqa: PLC0415

        return getattr(errors, name)
    raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")


def _helper() -> Any:
    """The module of the distribution tunesmith-report, or the copy that this one carries."""
    from importlib import import_module  # noqa: PLC0415

    try:
        return import_module("tunesmith_report")
    except ImportError:
        return import_module("tunesmith._report")
