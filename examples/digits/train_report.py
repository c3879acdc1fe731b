# SPDX-License-Identifier: Apache-2.0
"""Train as train.py does, and report the metrics by a call instead of printing them.

Called once per trial by report.yaml beside it, or by hand: `python3 train_report.py --lr=0.03`.
Outside of a trial `tunesmith.report` prints, so the same script works everywhere.
"""

from __future__ import annotations

import numpy as np
import train

import tunesmith


def main() -> None:
    """Train, with one report per epoch and one of the test accuracy at the end."""
    args = train.parser().parse_args()
    (images, labels), validation, test = train.split(*train.load_digits())
    rng = np.random.default_rng(args.seed)
    network = train.Network(args.hidden, args.activation, rng)
    for epoch in range(1, args.epochs + 1):
        order = rng.permutation(len(images))
        batches = np.split(order, range(args.batch_size, len(order), args.batch_size))
        losses = [
            network.step(images[rows], labels[rows], args.lr, args.momentum) for rows in batches
        ]
        tunesmith.report(step=epoch, loss=np.mean(losses), accuracy=network.accuracy(*validation))
    tunesmith.report(test_accuracy=network.accuracy(*test))


if __name__ == "__main__":
    main()
