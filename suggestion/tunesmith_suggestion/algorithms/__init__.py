# SPDX-License-Identifier: Apache-2.0
"""Our algorithms, one module each; `registry` names them. Numpy and nothing else below them."""
