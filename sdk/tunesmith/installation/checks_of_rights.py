# SPDX-License-Identifier: Apache-2.0
"""Whether the accounts of an installation may do all that they need to, by SubjectAccessReviews."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

from tunesmith.installation.cluster_objects import ClusterObjects
from tunesmith.installation.findings import Finding, mended_by_install
from tunesmith.installation.options import Installation
from tunesmith.installation.rights import Grant, Right, grants

_AT_ONCE: Final = 8
_MOST_NAMED: Final = 6


@dataclass(frozen=True, slots=True)
class _Question:
    """May the account do this."""

    grant: Grant
    right: Right
    verb: str
    resource: str
    name: str

    def __str__(self) -> str:
        group = f".{self.right.group}" if self.right.group else ""
        return f"{self.verb} {self.resource}{group}{f' {self.name}' if self.name else ''}"


async def check_rights(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    """A line for each role that is granted."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def missing(question: _Question) -> str:
        async with turns:
            return "" if await _may(objects, there.namespace, question) else str(question)

    for grant in grants(there):
        asked = [missing(question) for question in _questions(grant)]
        found = [each for each in await asyncio.gather(*asked) if each]
        where = f"in namespace {grant.where}" if grant.where else "everywhere"
        subject = f"rights of {grant.account} {where}, {grant.role}"
        yield mended_by_install(subject, _told(found), there)


def _told(missing: list[str]) -> str:
    if not missing:
        return ""
    more = len(missing) - _MOST_NAMED
    rest = f" and {more} more" if more > 0 else ""
    return f"it may not {', '.join(missing[:_MOST_NAMED])}{rest}"


def _questions(grant: Grant) -> Iterator[_Question]:
    for right in grant.rights:
        for resource in right.resources:
            for verb in right.verbs:
                for name in right.names or ("",):
                    yield _Question(grant, right, verb, resource, name)


async def _may(objects: ClusterObjects, home: str, question: _Question) -> bool:
    resource, _, sub = question.resource.partition("/")
    attributes = {
        "group": question.right.group,
        "resource": resource,
        "subresource": sub,
        "verb": question.verb,
        "name": question.name,
        "namespace": question.grant.where or "",
    }
    return await objects.may(home, question.grant.account, attributes)
