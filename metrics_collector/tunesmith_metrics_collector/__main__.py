# SPDX-License-Identifier: Apache-2.0
"""`python -m tunesmith_metrics_collector --sink unix:/run/o.sock --trial-uid ... --path ...`."""

import sys

from tunesmith_metrics_collector.process import parse_options, run_collector

sys.exit(run_collector(parse_options(sys.argv[1:])))
