# SPDX-License-Identifier: Apache-2.0
"""The services started by hand; each runs until it is told to stop."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith.cli.forms import Runtime
from tunesmith.cli.signals import EndSignals
from tunesmith.cli.verbs import log_to_file
from tunesmith.client import Client
from tunesmith.errors import counted
from tunesmith.serving import Served


def serve_machine(
    *, port: int | None, runtime: Runtime, cpus: float | None, db_manager: str = ""
) -> int:
    """The exit status of `serve` (with a port) or `controller` (without)."""
    log_to_file()
    client = Client(cpus=cpus, runtime=runtime.value)
    running_on = client.serve(
        port=port,
        db_manager=db_manager,
        ready=_say_ready,
        notice=_say,
        interrupt=EndSignals(),
    )
    if running_on:
        again = "`tunesmith serve` or `tunesmith run` takes them up again"
        print(f"{counted(running_on, 'trial')} left running; {again}", flush=True)
    return 0


def _say(sentence: str) -> None:
    print(f"note: {sentence}", file=sys.stderr, flush=True)


def _say_ready(served: Served) -> None:
    if served.url is None:
        print(f"the controller of {served.home} is running; Ctrl-C ends it", flush=True)
        return
    print(f"the controller of {served.home} and its API are running; Ctrl-C ends them")
    print(f"api         {served.url}")
    print(f"kubeconfig  {served.kubeconfig}")
    print(f"\nexport KUBECONFIG={shlex.quote(str(served.kubeconfig))}", flush=True)


def serve_suggestions(
    listen: str, insecure: bool, tls_cert: Path | None, tls_key: Path | None
) -> int:
    """The exit status of the suggestion service."""
    from tunesmith_suggestion import server as suggestion_server  # noqa: PLC0415

    return suggestion_server.run_server(
        suggestion_server.ServerOptions(
            listen=listen, insecure=insecure, tls_cert=tls_cert, tls_key=tls_key
        )
    )


def serve_stopping_rules(**options: Any) -> int:
    """The exit status of the early stopping service; `options` are those of its ServerOptions."""
    from tunesmith_earlystopping.server import ServerOptions, run_server  # noqa: PLC0415

    return run_server(ServerOptions(**options))


def collect(arguments: Sequence[str]) -> int:
    """The exit status of a metrics collector, whose own command line `arguments` are."""
    from tunesmith_metrics_collector import process  # noqa: PLC0415

    return process.run_collector(process.parse_options(arguments))
