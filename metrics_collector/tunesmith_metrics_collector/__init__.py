# SPDX-License-Identifier: Apache-2.0
"""Reports metrics: follows what a trial writes, parses it and appends rows to an observation log.

May live here: sources (where bytes come from), parsers (what they mean), the collector that joins
them, and the client of the observation service. It is a pod's sidecar too, so it imports nothing
but grpc, protobuf and re2.
"""
