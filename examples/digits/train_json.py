# SPDX-License-Identifier: Apache-2.0
"""Train as train.py does, and also write its metrics to a file, one JSON object a line.

Called once per trial by file-json.yaml beside it, or by hand:
`python3 train_json.py --metrics-file=metrics.json --lr=0.03`. The values are texts, for Katib's
collector takes no others; tunesmith takes numbers too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TextIO

import train


class Copied:
    """Standard output: printed as ever, and each line of `name=value` words put into a file."""

    def __init__(self, screen: TextIO, file: TextIO) -> None:
        self.screen = screen
        self.file = file

    def write(self, text: str) -> int:
        words = dict(word.split("=", 1) for word in text.split() if "=" in word)
        if words:
            self.file.write(json.dumps({"timestamp": time.time(), **words}) + "\n")
        return self.screen.write(text)

    def flush(self) -> None:
        self.file.flush()
        self.screen.flush()


def main() -> None:
    """Take --metrics-file; the other arguments are train.py's."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--metrics-file", type=Path, required=True)
    args, rest = parser.parse_known_args()
    args.metrics_file.parent.mkdir(parents=True, exist_ok=True)
    sys.argv[1:] = rest
    with args.metrics_file.open("a") as file, contextlib.redirect_stdout(Copied(sys.stdout, file)):
        train.main()


if __name__ == "__main__":
    main()
