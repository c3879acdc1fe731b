# SPDX-License-Identifier: Apache-2.0
"""Proposes: algorithms, the search-space compiler, and the service that carries them.

`protocol` is what an algorithm must be; `algorithms` are ours; `registry` finds them by name;
`core` answers requests without a network; `servicer` and `server` put it on gRPC;
`testing` ships the contract suites. The controller is a client and nothing here imports it.
"""
