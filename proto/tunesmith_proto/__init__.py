# SPDX-License-Identifier: Apache-2.0
"""The wire: generated messages (`katib`, `v1`) and `wire`, which binds them to service names."""
