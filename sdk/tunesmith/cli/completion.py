# SPDX-License-Identifier: Apache-2.0
"""Tab completion of experiment and trial names; silent when the state cannot be read."""

from __future__ import annotations

import typer


def complete_experiment(context: typer.Context, incomplete: str) -> list[str]:
    return _names(context, incomplete, trials=False)


def complete_name(context: typer.Context, incomplete: str) -> list[str]:
    return _names(context, incomplete, trials=True)


def complete_assignment(context: typer.Context, incomplete: str) -> list[str]:
    """`NAME=` for the parameters of the experiment typed before that have no value yet."""
    typed = context.params.get("experiment")
    given = {value.partition("=")[0] for value in context.params.get("values") or ()}
    try:
        from tunesmith.client import Client  # noqa: PLC0415

        client = Client(namespace=context.params.get("namespace"))
        found = client.parameters(str(typed)) if typed and client.home.exists() else []
    except Exception:  # noqa: BLE001 - while a shell completes, nobody can read an error
        found = []
    return [f"{name}=" for name in found if name not in given and name.startswith(incomplete)]


def complete_algorithm(incomplete: str) -> list[str]:
    try:
        from tunesmith.client import Client  # noqa: PLC0415

        found = [view.name for view in Client().algorithms()]
    except Exception:  # noqa: BLE001 - while a shell completes, nobody can read an error
        found = []
    return [name for name in found if name.startswith(incomplete)]


def complete_check(incomplete: str) -> list[str]:
    """Names of the checks of `certify`."""
    from tunesmith_suggestion.certify import CHECKS  # noqa: PLC0415

    return [name for name in CHECKS if name.startswith(incomplete)]


def complete_context(context: typer.Context, incomplete: str) -> list[str]:
    """Of the kubeconfig that was typed before, or kubectl's."""
    try:
        from tunesmith_controller.stores.kubernetes_transport import (  # noqa: PLC0415
            contexts_of,
        )

        typed = context.params.get("kubeconfig")
        found = contexts_of(str(typed) if typed else None)
    except Exception:  # noqa: BLE001 - while a shell completes, nobody can read an error
        found = []
    return [name for name in found if name.startswith(incomplete)]


def _names(context: typer.Context, incomplete: str, *, trials: bool) -> list[str]:
    """Names in the namespace that was typed before."""
    try:
        from tunesmith.client import Client  # noqa: PLC0415

        client = Client(namespace=context.params.get("namespace"))
        found = client.names(trials=trials) if client.home.exists() else []
    except Exception:  # noqa: BLE001 - while a shell completes, nobody can read an error
        found = []
    return [name for name in found if name.startswith(incomplete)]
