# SPDX-License-Identifier: Apache-2.0
"""The tests of `tunesmith_controller.testing.ObjectStoreContract`, by topic.

`case` holds what they share. They know the port and nothing of the stores beside this package, so
that they also run on a Kubernetes API server with Katib's resource definitions.
"""
