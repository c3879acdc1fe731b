# SPDX-License-Identifier: Apache-2.0
"""Runs the reconcilers: informers feed keyed queues, workers call `reconcile(key)`.

Knows when something is looked at, never what is decided. Ports only.
"""
