# SPDX-License-Identifier: Apache-2.0
"""Training that can be interrupted: it goes on from its last checkpoint and ends when told to.

Called by checkpoint.yaml and resume.yaml beside it, or by hand. What is trained is the network of
train.py; after each epoch its weights are kept in the trial's checkpoint directory, which a trial
that was paused, or lost its machine, finds again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from train import Network, load_digits, parser, split

import tunesmith


def save(folder: Path, network: Network, epoch: int) -> None:
    """In one step, so that an interruption leaves the checkpoint before or this one."""
    draft = folder / "draft.npz"
    layers = {f"w{i}": weight for i, weight in enumerate(network.weights)}
    layers |= {f"v{i}": velocity for i, velocity in enumerate(network.velocity)}
    np.savez(draft, epoch=epoch, **layers)
    os.replace(draft, folder / "last.npz")


def load(folder: Path, network: Network) -> int:
    """How many epochs are done already."""
    path = folder / "last.npz"
    if not path.exists():
        return 0
    with np.load(path) as kept:
        network.weights = [kept[f"w{i}"] for i in range(4)]
        network.velocity = [kept[f"v{i}"] for i in range(4)]
        return int(kept["epoch"])


def main() -> None:
    """Trains from the last checkpoint on, one report an epoch."""
    options = parser()
    options.add_argument("--pause", type=float, default=0.0, help="seconds of rest an epoch")
    args = options.parse_args()
    (images, labels), validation, _ = split(*load_digits())
    network = Network(args.hidden, args.activation, np.random.default_rng(args.seed))
    folder = tunesmith.checkpoint_dir()
    done = load(folder, network)
    if done:
        print(f"goes on after epoch {done}", flush=True)
    for epoch in range(done + 1, args.epochs + 1):
        # A generator for each epoch: the order of batches is the same after an interruption.
        order = np.random.default_rng((args.seed, epoch)).permutation(len(images))
        for rows in np.split(order, range(args.batch_size, len(order), args.batch_size)):
            network.step(images[rows], labels[rows], args.lr, args.momentum)
        tunesmith.report(step=epoch, accuracy=network.accuracy(*validation))
        save(folder, network, epoch)
        if tunesmith.should_stop():
            print(f"told to stop after epoch {epoch}", flush=True)
            return
        time.sleep(args.pause)


if __name__ == "__main__":
    main()
