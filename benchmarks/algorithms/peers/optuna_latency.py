# SPDX-License-Identifier: Apache-2.0
"""CPU seconds of a suggestion by Optuna: `optuna_latency.py METHOD TRIALS BATCH REPEATS`.

In memory, the ten mixed parameters of `latency.py`. A suggestion is: tell one trial, ask one. A
batch is asked with all of it running. Prints one JSON line. Run by `latency`.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna_peer import SAMPLERS
from speak import Start

SPACE: dict[str, BaseDistribution] = {
    **{f"x{i}": FloatDistribution(-5, 5) for i in range(4)},
    **{f"l{i}": FloatDistribution(1e-5, 1, log=True) for i in range(2)},
    "i0": IntDistribution(1, 32),
    "i1": IntDistribution(1, 100),
    "c0": CategoricalDistribution(list("abcd")),
    "c1": CategoricalDistribution(list("abc")),
}


def main(method: str, trials: int, batch: int, repeats: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    start = Start((), seed=1, parallel=batch, trials=trials)
    study = optuna.create_study(sampler=SAMPLERS[method](start))
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2))
    for k in range(trials):
        trial = random.ask(SPACE)
        made = optuna.trial.create_trial(
            params=trial.params, distributions=SPACE, value=_loss(trial.params, k)
        )
        study.add_trial(made)
    study.tell(study.ask(SPACE), 0.5)  # loads and compiles
    seconds, points = [], 0
    for k in range(repeats):
        began = time.process_time()
        asked = [study.ask(SPACE) for _ in range(batch)]
        seconds.append(time.process_time() - began)
        points = len({json.dumps(trial.params) for trial in asked})
        for trial in asked:
            began = time.process_time()
            study.tell(trial, _loss(trial.params, k))
            seconds[-1] += time.process_time() - began
    print(json.dumps({"cpu_s": sum(seconds) / repeats, "distinct": points}))


def _loss(values: dict[str, object], k: int) -> float:
    return sum(float(values[f"x{i}"]) ** 2 for i in range(4)) + (k * 7919 % 1000) / 1000  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
