# SPDX-License-Identifier: Apache-2.0
"""The errors of every port, in one tree; adapters map what their libraries raise to these.

PortError                     something outside failed; retry with backoff
├── NotFound                  the object is not there
├── AlreadyExists             create: the name is taken
├── Conflict                  the resourceVersion or uid precondition does not hold: read again
├── Expired                   watch: history before this resourceVersion is gone, list again
├── Invalid                   the object or call can never work; not retried
└── Unavailable               no answer, or an answer that says "later"
"""

from __future__ import annotations


class PortError(Exception):
    """Base of what ports raise."""


class NotFound(PortError):
    """The object is not there."""


class AlreadyExists(PortError):
    """The name is taken."""


class Conflict(PortError):
    """A resourceVersion or uid precondition does not hold."""


class Expired(PortError):
    """The watch cannot resume from this resourceVersion."""


class Invalid(PortError):
    """The request can never succeed as it is."""


class Unavailable(PortError):
    """No answer in time, or an answer that says "later"."""
