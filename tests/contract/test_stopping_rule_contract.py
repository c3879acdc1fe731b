# SPDX-License-Identifier: Apache-2.0
"""Our rules pass the suite that is offered to authors of others."""

from __future__ import annotations

import pytest

from tunesmith_earlystopping.protocol import StoppingRule
from tunesmith_earlystopping.rules.medianstop import MedianStop
from tunesmith_earlystopping.testing import StoppingRuleContract


class TestMedianStop(StoppingRuleContract):
    @pytest.fixture
    def rule(self) -> StoppingRule:
        return MedianStop()


class TestMedianStopAsInKatib(TestMedianStop):
    given_settings = {"statistic": "mean", "horizon": "start", "start_step": "2"}  # noqa: RUF012
