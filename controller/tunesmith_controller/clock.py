# SPDX-License-Identifier: Apache-2.0
"""Real time and real chance: the only place of the controller that asks the machine for either.

Processes build these once and hand them down; everything else takes the `Clock` and `Rng` ports.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from uuid import UUID


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class SystemRng:
    """The operating system's generator: never repeats, also after a fork."""

    def seed(self) -> int:
        return secrets.randbits(63)

    def uid(self) -> str:
        """A random UUID (RFC 9562, version 4)."""
        return str(UUID(bytes=secrets.token_bytes(16), version=4))

    def jitter(self) -> float:
        return secrets.randbits(53) / (1 << 53)
