# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of a trial come from."""
