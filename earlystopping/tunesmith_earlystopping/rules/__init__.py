# SPDX-License-Identifier: Apache-2.0
"""Our own rules. May not live here: gRPC, files, clocks."""
