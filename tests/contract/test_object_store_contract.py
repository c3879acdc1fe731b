# SPDX-License-Identifier: Apache-2.0
"""The object store contract, over every store that needs nothing but this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deterministic import CountingRng, TickingClock

from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.ports import ObjectStore
from tunesmith_controller.stores.memory import MemoryStore
from tunesmith_controller.stores.sqlite import SqliteStore
from tunesmith_controller.testing import ObjectStoreContract


class TestMemoryStore(ObjectStoreContract):
    history_limit = 100

    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryStore(TickingClock(), CountingRng(), history=self.history_limit)


class TestSqliteStore(ObjectStoreContract):
    history_limit = 130  # pruned in steps, so a few more than its bound

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ObjectStore]:
        store = SqliteStore(tmp_path / "objects.db", TickingClock(), CountingRng(), history=128)
        yield store
        store.close()


class TestTwoSqliteStoresOnOneFile(TestSqliteStore):
    """As two processes have it: nothing is shared but the file."""

    @pytest.fixture
    def second_store(self, store: ObjectStore, tmp_path: Path) -> Iterator[ObjectStore]:
        second = SqliteStore(
            tmp_path / "objects.db", SystemClock(), SystemRng(), poll_interval_s=0.02, history=128
        )
        yield second
        second.close()
