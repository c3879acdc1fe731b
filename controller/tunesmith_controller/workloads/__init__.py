# SPDX-License-Identifier: Apache-2.0
"""Adapters of the `Workloads` port: what runs the attempts of trials.

`process` runs them as local processes. Reconcilers never import this package; the program that
assembles a controller does.
"""
