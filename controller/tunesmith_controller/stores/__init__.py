# SPDX-License-Identifier: Apache-2.0
"""Keeps objects: adapters of the `ObjectStore` port. Reconcilers never import this package.

`semantics` and `validity` say what Kubernetes would do to one JSON object; `engine` does it to a
table of them (create, update, delete, owner cascade); `watching` tells watchers. `memory` and
`sqlite` only bring the table: whatever is not about keeping bytes lives in the shared modules,
so that the stores cannot disagree. A new store runs `tunesmith_controller.testing`.
"""
