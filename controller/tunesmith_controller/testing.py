# SPDX-License-Identifier: Apache-2.0
"""Contract suites for authors of adapters: subclass one, give it a fixture, run pytest.

    class TestMyStore(ObjectStoreContract):
        @pytest.fixture
        def store(self) -> Iterator[ObjectStore]:
            yield MyStore(...)

Needs pytest, but no plugin of it. The tests of a suite are in the modules it is composed of.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tunesmith_controller.stores.contract")

from tunesmith_controller.stores.contract.changes import ChangesContract  # noqa: E402
from tunesmith_controller.stores.contract.deletion import DeletionContract  # noqa: E402
from tunesmith_controller.stores.contract.objects import ObjectsContract  # noqa: E402
from tunesmith_controller.stores.contract.watches import WatchesContract  # noqa: E402

__all__ = ["ObjectStoreContract"]


class ObjectStoreContract(ObjectsContract, ChangesContract, DeletionContract, WatchesContract):
    """What every `ObjectStore` does. The fixture `store` gives an empty one for each test;
    `second_store`, if overridden, another client of the same data. See `StoreCase` for what else
    a subclass may declare."""
