# SPDX-License-Identifier: Apache-2.0
"""Service names, methods and how to call or serve them; the one place that knows the paths.

Messages live in a protobuf package of our own, services keep Katib's names. Servers call
`handler(SERVICE, implementation)` with any object that has a method per RPC (sync for
`grpc.server`, async for `grpc.aio.server`); clients call `call(channel, METHOD)`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from tunesmith_proto.katib import api_pb2
from tunesmith_proto.v1 import observations_pb2, suggestions_pb2


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its full path is `/{service}/{name}`."""

    service: str
    name: str
    request: type[Message]
    reply: type[Message]
    streams_reply: bool = False

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


def _methods(service: str, *rows: tuple[str, type[Message], type[Message]]) -> dict[str, Method]:
    return {name: Method(service, name, request, reply) for name, request, reply in rows}


KATIB_SUGGESTION: Final = "api.v1.beta1.Suggestion"
KATIB_EARLY_STOPPING: Final = "api.v1.beta1.EarlyStopping"
KATIB_DB_MANAGER: Final = "api.v1.beta1.DBManager"
SUGGESTIONS: Final = "tunesmith.v1.Suggestions"
OBSERVATIONS: Final = "tunesmith.v1.Observations"

# The name under which Katib's controller and the probes of its Deployments ask for health.
KATIB_HEALTH_SERVICE: Final = "manager.v1beta1.Suggestion"

SERVICES: Final[Mapping[str, Mapping[str, Method]]] = {
    KATIB_SUGGESTION: _methods(
        KATIB_SUGGESTION,
        ("GetSuggestions", api_pb2.GetSuggestionsRequest, api_pb2.GetSuggestionsReply),
        (
            "ValidateAlgorithmSettings",
            api_pb2.ValidateAlgorithmSettingsRequest,
            api_pb2.ValidateAlgorithmSettingsReply,
        ),
    ),
    KATIB_EARLY_STOPPING: _methods(
        KATIB_EARLY_STOPPING,
        (
            "GetEarlyStoppingRules",
            api_pb2.GetEarlyStoppingRulesRequest,
            api_pb2.GetEarlyStoppingRulesReply,
        ),
        ("SetTrialStatus", api_pb2.SetTrialStatusRequest, api_pb2.SetTrialStatusReply),
        (
            "ValidateEarlyStoppingSettings",
            api_pb2.ValidateEarlyStoppingSettingsRequest,
            api_pb2.ValidateEarlyStoppingSettingsReply,
        ),
    ),
    KATIB_DB_MANAGER: _methods(
        KATIB_DB_MANAGER,
        (
            "ReportObservationLog",
            api_pb2.ReportObservationLogRequest,
            api_pb2.ReportObservationLogReply,
        ),
        ("GetObservationLog", api_pb2.GetObservationLogRequest, api_pb2.GetObservationLogReply),
        (
            "DeleteObservationLog",
            api_pb2.DeleteObservationLogRequest,
            api_pb2.DeleteObservationLogReply,
        ),
    ),
    SUGGESTIONS: _methods(
        SUGGESTIONS,
        ("Validate", suggestions_pb2.ValidateRequest, suggestions_pb2.ValidateReply),
        ("Suggest", suggestions_pb2.SuggestRequest, suggestions_pb2.SuggestReply),
    ),
    OBSERVATIONS: {
        **_methods(
            OBSERVATIONS,
            ("Report", observations_pb2.ReportRows, observations_pb2.Acknowledgement),
            ("Sources", observations_pb2.ListSources, observations_pb2.SourceList),
            ("Fence", observations_pb2.FenceAttempts, observations_pb2.FenceReply),
            ("Delete", observations_pb2.DeleteRows, observations_pb2.DeleteReply),
            ("Stop", observations_pb2.StopAttempt, observations_pb2.StopReply),
        ),
        "Read": Method(
            OBSERVATIONS, "Read", observations_pb2.ReadRows, observations_pb2.RowBatch, True
        ),
    },
}


def handler(
    service: str, implementation: object, *, as_bytes: Collection[str] = ()
) -> grpc.GenericRpcHandler:
    """The generic handler that serves `implementation` under `service`.

    `implementation` has one method per RPC name, called `(request, context)`; a missing method is
    answered UNIMPLEMENTED. Methods in `as_bytes` get their request as it came.
    """
    handlers = {}
    for name, method in SERVICES[service].items():
        function = getattr(implementation, name, None)
        if function is None:
            continue
        bind = (
            grpc.unary_stream_rpc_method_handler
            if method.streams_reply
            else grpc.unary_unary_rpc_method_handler
        )
        handlers[name] = bind(
            function,
            request_deserializer=None if name in as_bytes else method.request.FromString,
            response_serializer=method.reply.SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service, handlers)


def call(channel: Any, service: str, name: str) -> Any:
    """The callable of one RPC on a sync or aio channel: `await call(channel, S, N)(request)`."""
    method = SERVICES[service][name]
    bind = channel.unary_stream if method.streams_reply else channel.unary_unary
    return bind(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.reply.FromString,
    )
