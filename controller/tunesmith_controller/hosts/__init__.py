# SPDX-License-Identifier: Apache-2.0
"""Adapters to suggestion services: where they run (`AlgorithmHost`) and how they are asked
(`SuggestionClient`). Reconcilers know the ports only.

`process_host` keeps a child process; `grpc_suggestions` speaks to any service; `delta` is the
protocol of history deltas without a network; `katib_suggestions` asks Katib's own images.
"""
