# SPDX-License-Identifier: Apache-2.0
"""What a user imports: `tunesmith.Client`, `tunesmith.report`, the errors.

Importing this is cheap on purpose (training code does it for `report`): everything else is loaded
when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.errors import (
        ChangedExperiment,
        InvalidExperiment,
        NotThere,
        StateUnusable,
        TunesmithError,
    )

    def report(step: int | None = None, *, all_ranks: bool = False, **metrics: float) -> None:
        """Reports metrics of the running trial; prints them outside of one."""


__all__ = [
    "ChangedExperiment",
    "Client",
    "InvalidExperiment",
    "NotThere",
    "StateUnusable",
    "TunesmithError",
    "report",
]


def __getattr__(name: str) -> Any:
    if name == "report":
        return _report()
    if name == "Client":
        from tunesmith.client import Client  # noqa: PLC0415

        return Client
    if name in __all__:
        from tunesmith import errors  # noqa: PLC0415

        return getattr(errors, name)
    raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")


def _report() -> Any:
    """The helper of the distribution tunesmith-report, or the copy that this one carries."""
    from importlib import import_module  # noqa: PLC0415

    try:
        return import_module("tunesmith_report").report
    except ImportError:
        return import_module("tunesmith._report").report
