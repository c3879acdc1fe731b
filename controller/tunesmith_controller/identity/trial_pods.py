# SPDX-License-Identifier: Apache-2.0
"""Which attempt of which trial a pod is of: by its owners, up to what the trial itself records.

A pod says who owns it, and whoever may create pods in a namespace can have one say anything. So
nothing is believed that its owners do not bear out: each is fetched and is the one that was meant
(uid), all are in the pod's namespace, and the last below the Trial is the job that the Trial has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_controller.admission.collection import ANNOTATION_ATTEMPT, ANNOTATION_TRIAL_UID
from tunesmith_controller.identity.answers import Kept
from tunesmith_controller.ports import Invalid, Json, Key, NotFound, PortError, Unavailable
from tunesmith_controller.stores.rest import RestStore
from tunesmith_controller.stores.rest_errors import Denied
from tunesmith_controller.stores.rest_transport import ApiTransport
from tunesmith_controller.workloads.cluster_kinds import Kinds
from tunesmith_controller.workloads.cluster_object import attempt_of
from tunesmith_proto.callers import TrialCaller

MOST_OWNERS: Final = 5
"""From a pod to its Trial, the Trial included."""

_KEPT_S: Final = 3600.0
"""A pod's owners do not change, and while its job is deleted it may still have rows to report."""
_KEPT: Final = 20_000
_KINDS_ASKED: Final = 4096
"""After so many the memory of discovery begins anew: pods may name kinds that nobody has."""

_API_VERSION: Final = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?v[a-z0-9]+")
_KIND: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?")


class NotATrials(Exception):
    """The pod is no trial's; the message says why, as "its owner Job b is gone"."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A controller ownerReference."""

    api_version: str
    kind: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def is_trial(self) -> bool:
        return self.kind == "Trial" and _group(self.api_version) == "kubeflow.org"


class TrialPods:
    """For one cluster and event loop. Needs the right to get pods, Trials and the kinds between."""

    def __init__(self, transport: ApiTransport) -> None:
        self._transport = transport
        self._store = RestStore(transport)
        self._kinds, self._asked = Kinds(transport), 0
        self._known: Kept[str, TrialCaller] = Kept(_KEPT)

    async def named(self, namespace: str, name: str, uid: str) -> TrialCaller:
        """Of the pod with that uid. Raises NotATrials, Unavailable."""
        known = self._known.get(uid)
        if known is not None:
            return known
        try:
            pod = await self._store.get(Key("Pod", namespace, name))
        except NotFound:
            raise NotATrials(f"pod {namespace}/{name} is gone") from None
        if pod["metadata"]["uid"] != uid:
            raise NotATrials(f"pod {namespace}/{name} is another one by now")
        return await self.of(pod)

    async def of(self, pod: Json) -> TrialCaller:
        """Of a pod as the API has it. Raises NotATrials, Unavailable."""
        uid = str(pod["metadata"]["uid"])
        caller = self._known.get(uid)
        if caller is None:
            caller = await self._followed(pod)
            self._known.put(uid, caller, _KEPT_S)
        return caller

    async def _followed(self, pod: Json) -> TrialCaller:
        namespace, below = str(pod["metadata"]["namespace"]), pod
        for _ in range(MOST_OWNERS):
            owner = owner_of(below)
            above = await self._fetched(namespace, owner)
            if owner.is_trial:
                return judged(pod, below, above)
            below = above
        raise NotATrials(f"pod {_name(pod)} has more than {MOST_OWNERS} owners above each other")

    async def _fetched(self, namespace: str, owner: Owner) -> Json:
        try:
            store = await self._store_of(owner)
            found = await store.get(Key(owner.kind, namespace, owner.name))
        except NotFound:
            raise NotATrials(f"its owner {owner} is gone") from None
        except Denied as error:
            raise NotATrials(
                f"its owner {owner} may not be looked at: {error}; if trials of this kind are to"
                " report, let the service's account `get` it"
            ) from error
        except Invalid as error:
            raise NotATrials(f"its owner is {owner}: {error}") from error
        except PortError as error:
            raise Unavailable(str(error)) from error
        if found["metadata"]["uid"] != owner.uid:
            raise NotATrials(f"its owner {owner} is another one than it says")
        # Lists and single objects of some servers leave these out.
        return {**found, "apiVersion": owner.api_version, "kind": owner.kind}

    async def _store_of(self, owner: Owner) -> RestStore:
        if owner.is_trial:
            return self._store
        self._asked += 1
        if self._asked % _KINDS_ASKED == 0:
            self._kinds = Kinds(self._transport)
        resource = await self._kinds.resource(owner.api_version, owner.kind)
        return RestStore(self._transport, resources={owner.kind: resource})


def owner_of(obj: Json) -> Owner:
    """Raises NotATrials for what has no controller, or one whose name cannot be one."""
    owners = obj["metadata"].get("ownerReferences") or []
    found = next((each for each in owners if each.get("controller")), None)
    if found is None:
        raise NotATrials(f"{obj.get('kind') or 'Pod'} {_name(obj)} has no owner")
    owner = Owner(*(str(found.get(key, "")) for key in ("apiVersion", "kind", "name", "uid")))
    rules = (_API_VERSION, _KIND, _NAME)
    texts = (owner.api_version, owner.kind, owner.name)
    if not all(rule.fullmatch(text) for rule, text in zip(rules, texts, strict=True)):
        raise NotATrials("its owner's reference is no apiVersion, kind and name")
    return owner


def judged(pod: Json, job: Json, trial: Json) -> TrialCaller:
    """`job` is what the Trial owns, the pod itself for trials that are pods. Raises NotATrials for
    what is not the trial's job but only says so. Pure."""
    name, uid = str(trial["metadata"]["name"]), str(trial["metadata"]["uid"])
    what = f"its owner {job.get('kind') or 'Pod'} {_name(job)}"
    wanted = (trial.get("spec") or {}).get("runSpec") or {}
    if (_kind(job), _name(job)) != (_kind(wanted), name):
        raise NotATrials(f"{what} is not the job of trial {name}: that is a {wanted.get('kind')}")
    run = (trial.get("status") or {}).get("run") or {}
    recorded = str(run.get("jobUID") or "")
    if recorded and job["metadata"]["uid"] != recorded:
        raise NotATrials(f"{what} is not the one that trial {name} runs")
    attempt = _attempt_of(job, uid)
    if attempt is None or attempt > max(int(run.get("attempt") or 0), 1):
        raise NotATrials(f"{what} is of no attempt of trial {name}")
    if not _agrees(pod, uid, attempt):
        raise NotATrials(f"its annotations are not those of attempt {attempt} of trial {name}")
    metadata = pod["metadata"]
    return TrialCaller(uid, attempt, str(metadata["namespace"]), name, str(metadata["name"]))


def _attempt_of(job: Json, trial_uid: str) -> int | None:
    try:
        return attempt_of(job, trial_uid)
    except ValueError:  # of thousands of digits: nobody's whom we know
        return None


def _agrees(pod: Json, trial_uid: str, attempt: int) -> bool:
    """Operators need not copy annotations; but what is there is right."""
    annotations = pod["metadata"].get("annotations") or {}
    said = annotations.get(ANNOTATION_TRIAL_UID), annotations.get(ANNOTATION_ATTEMPT)
    return said[0] in (None, trial_uid) and said[1] in (None, str(attempt))


def _kind(obj: Json) -> tuple[str, Any]:
    return _group(str(obj.get("apiVersion") or "v1")), obj.get("kind") or "Pod"


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def _name(obj: Json) -> str:
    return str(obj["metadata"]["name"])
