# SPDX-License-Identifier: Apache-2.0
"""Who may do what to observations: one table for every RPC, and one for Katib's clients.

`guard.Guard` asks these rules; server.py puts them together. What is not in a table is for the
controller alone, so a method that comes later is closed until somebody opens it here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_observation.by_name import NamedTrial
from tunesmith_proto import wire
from tunesmith_proto.callers import CALLER, Account, Caller, ServiceCaller, TrialCaller
from tunesmith_proto.v1 import observations_pb2 as pb

OfTrial = Callable[[TrialCaller, Any], str]
"""Why a trial may not make this request; empty when it may."""


def _reports_itself(caller: TrialCaller, request: pb.ReportRows) -> str:
    key = request.key
    names = (request.trial_name or caller.trial, request.namespace or caller.namespace)
    if names != (caller.trial, caller.namespace):
        return f"{caller} may not report rows of trial {names[1]}/{names[0]}"
    return _is_its_own(caller, key.trial_uid, key.attempt, "report rows")


def _asks_of_itself(caller: TrialCaller, request: pb.ListSources) -> str:
    return _is_its_own(caller, request.trial_uid, request.attempt, "list sources")


def _names_itself(caller: TrialCaller, request: Any) -> str:
    if request.trial_name == caller.trial:
        return ""
    return f"{caller} may report and read its own log, not that of {request.trial_name!r}"


def _is_its_own(caller: TrialCaller, trial_uid: str, attempt: int, doing: str) -> str:
    if (trial_uid, attempt) == (caller.trial_uid, caller.attempt):
        return ""
    return f"{caller} may {doing} of itself, not of attempt {attempt} of the trial {trial_uid!r}"


def _path(service: str, name: str) -> str:
    return wire.SERVICES[service][name].path


_TRIALS_MAY: Final[Mapping[str, OfTrial]] = {
    _path(wire.OBSERVATIONS, "Report"): _reports_itself,
    _path(wire.OBSERVATIONS, "Sources"): _asks_of_itself,
}
_READERS_MAY: Final = frozenset(
    {
        _path(wire.OBSERVATIONS, "Read"),
        _path(wire.OBSERVATIONS, "Sources"),
        _path(wire.KATIB_DB_MANAGER, "GetObservationLog"),
    }
)

_KATIB_READ: Final = _path(wire.KATIB_DB_MANAGER, "GetObservationLog")
_KATIBS_TRIALS_MAY: Final[Mapping[str, OfTrial]] = {
    _path(wire.KATIB_DB_MANAGER, "ReportObservationLog"): _names_itself,
    _KATIB_READ: _names_itself,
}


@dataclass(frozen=True, slots=True)
class Accounts:
    """Service accounts that are no trials': `controllers` may everything, `readers` read."""

    controllers: frozenset[Account]
    readers: frozenset[Account] = frozenset()


class ObservationRules:
    """Of the service that knows callers by their tokens."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def why_not_call(self, method: str, caller: Caller) -> str:
        match caller:
            case TrialCaller() if method in _TRIALS_MAY:
                return ""
            case ServiceCaller(namespace, account):
                if (namespace, account) in self._accounts.controllers:
                    return ""
                if method in _READERS_MAY and (namespace, account) in self._accounts.readers:
                    return ""
        return f"{caller} may not call {method}"

    def why_not_this(self, method: str, caller: Caller, request: Any) -> str:
        return _TRIALS_MAY[method](caller, request) if isinstance(caller, TrialCaller) else ""


class KatibRules:
    """Of Katib's DBManager in plain text, which knows callers by their pods' addresses. `anybody
    reads`: people's notebooks do, by Katib's SDK; nobody else writes, and nobody deletes."""

    def __init__(self, *, anybody_reads: bool) -> None:
        self._anybody_reads = anybody_reads

    def why_not_call(self, method: str, caller: Caller) -> str:
        if isinstance(caller, TrialCaller):
            allowed = method in _KATIBS_TRIALS_MAY
        else:
            allowed = self._anybody_reads and method == _KATIB_READ
        return "" if allowed else f"{caller} may not call {method}"

    def why_not_this(self, method: str, caller: Caller, request: Any) -> str:
        if isinstance(caller, TrialCaller):
            return _KATIBS_TRIALS_MAY[method](caller, request)
        return ""


class CallersTrials:
    """The `TrialDirectory` where trials speak of themselves: a name is that of the trial that
    calls. For others the log answers with what it knows."""

    async def named(self, trial_name: str) -> Sequence[NamedTrial]:
        caller = CALLER.get()
        if not isinstance(caller, TrialCaller) or caller.trial != trial_name:
            return ()
        return (NamedTrial(caller.trial_uid, caller.attempt, caller.namespace),)
