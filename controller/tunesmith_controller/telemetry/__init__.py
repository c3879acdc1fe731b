# SPDX-License-Identifier: Apache-2.0
"""What a running controller tells machines: Prometheus series, health probes, structured logs."""
