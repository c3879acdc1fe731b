# SPDX-License-Identifier: Apache-2.0
"""`python -m tunesmith_earlystopping`: the service as a process of its own."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tunesmith_earlystopping.server import MAX_MESSAGE_BYTES, ServerOptions, run_server


def options_of(arguments: Sequence[str]) -> ServerOptions:
    """Ends the process with a usage message on bad arguments."""
    parser = argparse.ArgumentParser(
        prog="tunesmith_earlystopping", description="Judges running trials, over Katib's gRPC."
    )
    parser.add_argument(
        "--listen", required=True, metavar="ADDRESS", help="unix:/path or host:port"
    )
    parser.add_argument("--insecure", action="store_true", help="plaintext, on loopback only")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="private key, PEM")
    parser.add_argument("--max-message-bytes", type=int, default=MAX_MESSAGE_BYTES, metavar="N")
    trials = parser.add_argument_group("where SetTrialStatus marks trials as stopped")
    trials.add_argument("--api", default="", metavar="URL", help="a Kubernetes-shaped API")
    trials.add_argument("--namespace", default="", help="of the trials")
    trials.add_argument("--token-file", type=Path, metavar="FILE", help="bearer token")
    trials.add_argument("--ca-file", type=Path, metavar="FILE", help="the API's CA, PEM")
    return ServerOptions(**vars(parser.parse_args(arguments)))


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return run_server(options_of(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
