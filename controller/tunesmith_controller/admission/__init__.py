# SPDX-License-Identifier: Apache-2.0
"""Admission: the one gate for objects from people, the same rules in every world."""
