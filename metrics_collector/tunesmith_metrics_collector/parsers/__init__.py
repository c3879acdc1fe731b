# SPDX-License-Identifier: Apache-2.0
"""What the bytes of a trial mean: blocks of lines in, values out. No files, no network."""
