# SPDX-License-Identifier: Apache-2.0
"""Logs of a process in a cluster: one JSON object a line on standard output, by structlog; on a
terminal the same as readable lines."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.types import Processor


def log_structured(level: int = logging.INFO, *, readable: bool | None = None) -> None:
    """Sends every log line of the process to standard output. `readable` None: for people where
    standard output is a terminal, else for machines."""
    plain = sys.stdout.isatty() if readable is None else readable
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last: Processor = (
        structlog.dev.ConsoleRenderer() if plain else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
