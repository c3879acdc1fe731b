# SPDX-License-Identifier: Apache-2.0
"""Train a small neural network on the digits data set and print its metrics.

Called once per trial by random.yaml and tpe.yaml beside it, or by hand:
`python3 train.py --lr=0.03`. It knows nothing of tunesmith: it takes hyper-parameters as
arguments and prints `name=value`.

The 1,797 images are split once, with a fixed seed, into training (60 %), validation (20 %) and
test (20 %). Per epoch it prints `loss` (training) and `accuracy` (validation, which tuning
maximises); at the end `test_accuracy`, on images that neither training nor tuning has used.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Part = tuple[Floats, Labels]

SPLIT_SEED = 20240101  # one split for every trial: otherwise trials could not be compared
PIXELS, CLASSES = 64, 10


def load_digits() -> Part:
    """Images of 8 x 8 pixels in [-1, 1] and their digits, from scikit-learn's bundled file.

    sklearn.datasets.load_digits reads the same file, but importing scikit-learn takes longer than
    a whole trial here: so the package is located, not imported.
    """
    sklearn = importlib.util.find_spec("sklearn")
    if sklearn is None or sklearn.origin is None:
        raise SystemExit("the data set comes with scikit-learn: pip install scikit-learn")
    file = Path(sklearn.origin).parent / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(file, delimiter=",")
    return table[:, :PIXELS] / 8.0 - 1.0, table[:, PIXELS].astype(np.int64)


def split(images: Floats, labels: Labels) -> tuple[Part, Part, Part]:
    """Training, validation and test parts, disjoint and always the same."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    cuts = [len(images) * 6 // 10, len(images) * 8 // 10]
    train, validation, test = ((images[rows], labels[rows]) for rows in np.split(order, cuts))
    return train, validation, test


class Network:
    """One hidden layer and a softmax, trained by gradient descent with momentum."""

    def __init__(self, hidden: int, activation: str, rng: np.random.Generator) -> None:
        self.relu = activation == "relu"
        gain = 2.0 if self.relu else 1.0
        self.weights = [
            rng.normal(0.0, np.sqrt(gain / PIXELS), (PIXELS, hidden)),
            np.zeros(hidden),
            rng.normal(0.0, np.sqrt(1.0 / hidden), (hidden, CLASSES)),
            np.zeros(CLASSES),
        ]
        self.velocity = [np.zeros_like(weight) for weight in self.weights]

    def forward(self, images: Floats) -> tuple[Floats, Floats]:
        """The hidden layer's output and the logarithms of the class probabilities."""
        w1, b1, w2, b2 = self.weights
        inner = images @ w1 + b1
        hidden = np.maximum(inner, 0.0) if self.relu else np.tanh(inner)
        scores = hidden @ w2 + b2
        scores -= scores.max(axis=1, keepdims=True)
        return hidden, scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    def step(self, images: Floats, labels: Labels, lr: float, momentum: float) -> float:
        """One descent step on a batch; returns the batch's mean loss before it."""
        rows = np.arange(len(labels))
        hidden, log_probability = self.forward(images)
        error = np.exp(log_probability)
        error[rows, labels] -= 1.0
        error /= len(labels)
        slope = hidden > 0.0 if self.relu else 1.0 - hidden**2
        back = (error @ self.weights[2].T) * slope
        gradients = [images.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
        for layer, gradient in enumerate(gradients):
            self.velocity[layer] = momentum * self.velocity[layer] - lr * gradient
            self.weights[layer] += self.velocity[layer]
        return float(-log_probability[rows, labels].mean())

    def accuracy(self, images: Floats, labels: Labels) -> float:
        """The share of images whose most probable class is right."""
        return float((self.forward(images)[1].argmax(axis=1) == labels).mean())


def parser() -> argparse.ArgumentParser:
    """The hyper-parameters; the defaults are a fair start."""
    options = argparse.ArgumentParser(description="Train a small network on the digits data set.")
    options.add_argument("--lr", type=float, default=0.01, help="learning rate")
    options.add_argument("--batch-size", type=int, default=32, help="images per step")
    options.add_argument("--hidden", type=int, default=64, help="units of the hidden layer")
    options.add_argument("--activation", choices=["relu", "tanh"], default="relu")
    options.add_argument("--momentum", type=float, default=0.9, help="from 0 to below 1")
    options.add_argument("--epochs", type=int, default=10, help="passes over the training part")
    options.add_argument("--seed", type=int, default=0, help="of initial weights and batch order")
    return options


def main() -> None:
    """Train, printing one line per epoch and the test accuracy at the end."""
    args = parser().parse_args()
    (images, labels), validation, test = split(*load_digits())
    rng = np.random.default_rng(args.seed)
    network = Network(args.hidden, args.activation, rng)
    for epoch in range(1, args.epochs + 1):
        order = rng.permutation(len(images))
        batches = np.split(order, range(args.batch_size, len(order), args.batch_size))
        losses = [
            network.step(images[rows], labels[rows], args.lr, args.momentum) for rows in batches
        ]
        loss, accuracy = np.mean(losses), network.accuracy(*validation)
        print(f"epoch={epoch} loss={loss:.4f} accuracy={accuracy:.4f}", flush=True)
    print(f"test_accuracy={network.accuracy(*test):.4f}", flush=True)


if __name__ == "__main__":
    main()
