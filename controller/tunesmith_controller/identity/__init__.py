# SPDX-License-Identifier: Apache-2.0
"""Who calls our services in a cluster: a token's owner, or the pod at an address, and its trial."""
