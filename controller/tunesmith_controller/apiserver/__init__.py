# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes-shaped API of one machine: what kubectl, Katib's client and our own commands use.

Objects are those of the plane's store; pods and their logs are made from trials and their output.
Loopback only, with a token.
"""
