# SPDX-License-Identifier: Apache-2.0
"""Katib's GetSuggestions requests from their bytes: each trial is decoded and converted once.

Katib sends every trial in every request, thousands of them that did not change. So a request is cut
at its trials without decoding them, and what a trial's bytes mean is remembered by these bytes.
Blocks of trials that stand where they stood in an earlier request are recognised whole. What is
read is a function of the bytes; forgetting costs only time. Used by `katib`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from tunesmith_api.errors import Invalid
from tunesmith_api.problem import History, Outcome, OutcomeState, Pending, Problem
from tunesmith_api.search_space import Value
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.katib_messages import trial_of
from tunesmith_suggestion.reading import SpaceReader, reader_of

MOST_BYTES: Final = 256 * 1024 * 1024
"""Memory for the trials of all experiments together, as `_footprint` estimates it: some 170,000
trials of ten parameters. The experiment asked about last is held whatever its size."""
_OBJECTS_OF_A_TRIAL: Final = 900
"""Bytes of a trial's point, metrics and outcome as Python objects; ten parameters, measured."""
_BLOCK: Final = 64
_EXPERIMENT: Final = 0x0A
_TRIAL: Final = 0x12
"""Tags of the fields 1 and 2 of GetSuggestionsRequest, which have lengths."""
_LONGEST_LENGTH: Final = 5
"""Bytes of a varint that protobuf libraries take as a length."""

Converted = tuple[Mapping[str, Value], OutcomeState | None, Mapping[str, float]] | None
"""A trial: its point, how it ended (None: it runs) and its metrics; None for a foreign point."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A request that begins with its experiment, if any; trials follow from `first_trial` on."""

    data: bytes
    experiment: bytes
    first_trial: int


def is_in_order(data: bytes) -> bool:
    """Whether a request begins with its experiment: to open any other one costs decoding it."""
    return data.startswith(bytes((_EXPERIMENT,)))


def opened(data: bytes) -> Envelope:
    """Raises Invalid for bytes that are no request."""
    try:
        if not is_in_order(data):
            data = _in_order(data)
        if not is_in_order(data):
            return Envelope(data, b"", 0)
        begin, end = _span(data, 0)
        return Envelope(data, data[begin:end], end)
    except DecodeError as error:
        raise _malformed(error) from None


def in_order(envelope: Envelope) -> Envelope:
    """The same request, fields in the order of their numbers, as protobuf libraries write them.

    Raises Invalid for bytes that are no request.
    """
    try:
        return opened(_in_order(envelope.data))
    except DecodeError as error:
        raise _malformed(error) from None


def _in_order(data: bytes) -> bytes:
    whole = pb.GetSuggestionsRequest.FromString(data)
    return whole.SerializeToString(deterministic=True)


def _malformed(error: DecodeError) -> Invalid:
    return Invalid(f"the request is malformed: {error}")


def _span(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of the field at a tag begins and ends. Raises DecodeError."""
    length, shift, place = 0, 0, at + 1
    for place in range(at + 1, min(at + 1 + _LONGEST_LENGTH, len(data))):
        byte = data[place]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    else:
        raise DecodeError("a length is cut off")
    if place + 1 + length > len(data):
        raise DecodeError("a field is cut off")
    return place + 1, place + 1 + length


@dataclass(frozen=True, slots=True)
class Told:
    """What a request tells. `trials` is their number: their places are the ordinals; those that
    are no points of the space are in no history. `rest` is the request without its trials."""

    history: History
    trials: int
    rest: pb.GetSuggestionsRequest


def counted(envelope: Envelope) -> Told | None:
    """The same as `Trials.told` without reading the trials: their history stays empty."""
    data, at, trials = envelope.data, envelope.first_trial, 0
    try:
        while at < len(data) and data[at] == _TRIAL:
            _, at = _span(data, at)
            trials += 1
        rest = pb.GetSuggestionsRequest.FromString(data[at:])
    except DecodeError as error:
        raise _malformed(error) from None
    if rest.trials or rest.HasField("experiment"):
        return None
    return Told(History(), trials, rest)


@dataclass(frozen=True, slots=True)
class _Block:
    """Trials that follow each other, with the ordinals of their place."""

    data: bytes
    trials: int
    outcomes: tuple[Outcome, ...]
    pending: tuple[Pending, ...]


@dataclass(slots=True)
class _Held:
    """What is remembered of one experiment."""

    blocks: tuple[_Block, ...] = ()
    known: dict[bytes, Converted] = field(default_factory=dict)
    size: int = 0


class Trials:
    """The trials of requests as histories. Safe from several threads."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._size = 0

    def told(self, problem: Problem, envelope: Envelope) -> Told | None:
        """Unchanged trials are the same objects as in earlier answers. None for a request whose
        fields are in an unusual order: see `in_order`. Raises Invalid for what is malformed."""
        try:
            return self._told(problem, envelope)
        except DecodeError as error:
            raise _malformed(error) from None

    def _told(self, problem: Problem, envelope: Envelope) -> Told | None:
        with self._lock:
            held = self._held.get(envelope.experiment) or _Held()
        blocks, end = _blocks(problem, envelope, held)
        rest = pb.GetSuggestionsRequest.FromString(envelope.data[end:])
        if rest.trials or rest.HasField("experiment"):
            return None
        trials = sum(block.trials for block in blocks)
        self._keep(envelope, _Held(blocks, held.known, _footprint(envelope, trials)), trials)
        outcomes = tuple(o for block in blocks for o in block.outcomes)
        pending = tuple(p for block in blocks for p in block.pending)
        return Told(History(outcomes, pending), trials, rest)

    def _keep(self, envelope: Envelope, held: _Held, count: int) -> None:
        if len(held.known) > 3 * count + _BLOCK:  # trials of long ago, or as they ran
            held.known = {}
        with self._lock:
            before = self._held.pop(envelope.experiment, None)
            self._size += held.size - (before.size if before else 0)
            self._held[envelope.experiment] = held
            while self._size > self._most and len(self._held) > 1:
                _, dropped = self._held.popitem(last=False)
                self._size -= dropped.size


def _footprint(envelope: Envelope, trials: int) -> int:
    """Trials are held with their bytes twice: in a block, and by themselves to be found."""
    return 2 * len(envelope.data) + _OBJECTS_OF_A_TRIAL * trials


def _blocks(problem: Problem, envelope: Envelope, held: _Held) -> tuple[tuple[_Block, ...], int]:
    """All trials of a request, and where they end."""
    data, at, found = envelope.data, envelope.first_trial, list[_Block]()
    reader = reader_of(problem.space)
    while at < len(data) and data[at] == _TRIAL:
        place = len(found)
        block = held.blocks[place] if place < len(held.blocks) else None
        if block is None or block.trials < _BLOCK or not data.startswith(block.data, at):
            block = _read(reader, data, at, place * _BLOCK, held.known)
        found.append(block)
        at += len(block.data)
    return tuple(found), at


def _read(
    reader: SpaceReader, data: bytes, at: int, first: int, known: dict[bytes, Converted]
) -> _Block:
    """The next block from its bytes; `first` is its first ordinal."""
    outcomes: list[Outcome] = []
    pending: list[Pending] = []
    begin, ordinal = at, first
    while ordinal < first + _BLOCK and at < len(data) and data[at] == _TRIAL:
        start, at = _span(data, at)
        converted = _converted(reader, data[start:at], known)
        if converted is not None:
            values, state, metrics = converted
            if state is None:
                pending.append(Pending(ordinal, values))
            else:
                outcomes.append(Outcome(ordinal, values, state, metrics))
        ordinal += 1
    return _Block(data[begin:at], ordinal - first, tuple(outcomes), tuple(pending))


def _converted(reader: SpaceReader, trial: bytes, known: dict[bytes, Converted]) -> Converted:
    try:
        return known[trial]
    except KeyError:
        found = known[trial] = trial_of(reader, pb.Trial.FromString(trial))
        return found
