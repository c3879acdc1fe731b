# SPDX-License-Identifier: Apache-2.0
"""Series under Katib's names, probes that say what is wrong, log lines that machines can read."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tunesmith_controller.ports import Json
from tunesmith_controller.telemetry.logs import log_structured
from tunesmith_controller.telemetry.probes import Probes, probes_app
from tunesmith_controller.telemetry.series import Series


def obj(*conditions: str, namespace: str = "n") -> Json:
    return {
        "metadata": {"namespace": namespace, "name": "x"},
        "status": {"conditions": [{"type": type_} for type_ in conditions]},
    }


class Told:
    """Series that were told of changes, and what a scrape says of them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.series = Series(self.registry)

    def change(self, kind: str, *steps: Json | None) -> None:
        watcher = self.series.watcher(kind)
        assert watcher is not None
        for before, after in zip((None, *steps), steps, strict=False):
            watcher(before, after)

    def line(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def test_a_life_is_counted_under_katibs_names() -> None:
    told = Told()
    life = [obj(), obj("Created"), obj("Created", "Running"), obj("Created", "Succeeded")]
    told.change("Trial", *life)
    for word in ("created", "succeeded"):
        assert told.line(f"katib_trial_{word}_total", namespace="n") == 1
    assert told.line("katib_trial_failed_total", namespace="n") is None
    assert told.line("katib_trials_current", namespace="n", status="Succeeded") == 1
    assert told.line("katib_trials_current", namespace="n", status="Running") == 0


def test_what_was_there_before_the_process_is_current_but_not_new() -> None:
    told = Told()
    told.change("Experiment", obj("Created", "Running"))
    assert told.line("katib_experiment_created_total", namespace="n") is None
    assert told.line("katib_experiments_current", namespace="n", status="Running") == 1
    told.change("Experiment", obj("Created"), None)
    assert told.line("katib_experiment_deleted_total", namespace="n") == 1


def test_missing_metrics_have_katibs_series() -> None:
    told = Told()
    told.change("Trial", obj("Running"), obj("Running", "MetricsUnavailable"))
    assert told.line("katib_trial_metrics_unavailable_total", namespace="n") == 1


@pytest.mark.parametrize("status", [None, [], {"conditions": {}}, {"conditions": ["Created"]}])
def test_an_object_of_any_shape_is_counted_as_unknown(status: object) -> None:
    told = Told()
    told.change("Trial", {"metadata": {"name": "x"}, "status": status})
    assert told.line("katib_trials_current", namespace="", status="Unknown") == 1


def test_reconciles_are_timed_by_outcome() -> None:
    told = Told()
    told.series.reconciled("Trial", "done", 0.002)
    labels = {"kind": "Trial", "outcome": "done"}
    assert told.line("tunesmith_reconcile_seconds_count", **labels) == 1
    assert b"tunesmith_reconcile_seconds_bucket" in generate_latest(told.registry)


def asked(probes: Probes, path: str) -> httpx.Response:
    async def scenario() -> httpx.Response:
        transport = httpx.ASGITransport(probes_app(probes, CollectorRegistry()))
        async with httpx.AsyncClient(transport=transport, base_url="http://pod") as client:
            return await client.get(path)

    return asyncio.run(scenario())


def test_a_process_that_is_not_ready_says_why_and_is_still_alive() -> None:
    probes = Probes(ready={"webhook": lambda: "no certificate yet"})
    assert asked(probes, "/healthz").status_code == 200
    answer = asked(probes, "/readyz")
    assert (answer.status_code, answer.text) == (503, "webhook: no certificate yet\n")


def test_a_process_that_is_not_alive_is_not_ready_either() -> None:
    probes = Probes(alive={"manager": lambda: "it has ended"})
    assert asked(probes, "/healthz").status_code == asked(probes, "/readyz").status_code == 503


def test_metrics_are_in_prometheus_text_format() -> None:
    answer = asked(Probes(), "/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")


@pytest.fixture
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("root_logger")
def test_a_log_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    log_structured(readable=False)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("tunesmith.test").exception("trial %s", "a")
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert (said["event"], said["level"], said["logger"]) == ("trial a", "error", "tunesmith.test")
    assert "ValueError: two" in said["exception"] and "timestamp" in said
