# SPDX-License-Identifier: Apache-2.0
"""`python -m tunesmith_observation --listen unix:/run/tunesmith/db.sock --db sqlite:////...`."""

import sys

from tunesmith_observation.server import parse_options, run_server

sys.exit(run_server(parse_options(sys.argv[1:])))
