# SPDX-License-Identifier: Apache-2.0
"""Early stopping: rules that judge running trials, and the gRPC service that offers them."""
