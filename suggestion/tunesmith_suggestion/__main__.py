# SPDX-License-Identifier: Apache-2.0
"""`python -m tunesmith_suggestion`: the service as a process of its own."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tunesmith_suggestion.server import MAX_MESSAGE_BYTES, ServerOptions, run_server


def options_of(arguments: Sequence[str]) -> ServerOptions:
    """Ends the process with a usage message on bad arguments."""
    parser = argparse.ArgumentParser(
        prog="tunesmith_suggestion", description="Proposes parameters over gRPC."
    )
    parser.add_argument(
        "--listen", required=True, metavar="ADDRESS", help="unix:/path or host:port"
    )
    parser.add_argument("--insecure", action="store_true", help="plaintext, on loopback only")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="private key, PEM")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="end when standard input ends"
    )
    parser.add_argument("--max-message-bytes", type=int, default=MAX_MESSAGE_BYTES, metavar="N")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="computing threads")
    return ServerOptions(**vars(parser.parse_args(arguments)))


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return run_server(options_of(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
