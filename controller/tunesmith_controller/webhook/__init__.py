# SPDX-License-Identifier: Apache-2.0
"""Admission webhooks of a cluster: the rules of everywhere, and collectors for trials' pods."""
