# SPDX-License-Identifier: Apache-2.0
"""An installation on a cluster: its objects as data, putting them there, and looking after it."""
