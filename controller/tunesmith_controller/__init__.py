# SPDX-License-Identifier: Apache-2.0
"""Decides: reconcilers over ports, and the adapters that put them in a world.

`ports` is what the decisions may touch; `experiment`, `suggestion`, `trial` observe, decide and
apply; `manager` runs them; `stores`, `workloads`, `hosts` are adapters.
"""
