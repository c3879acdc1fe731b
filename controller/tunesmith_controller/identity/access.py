# SPDX-License-Identifier: Apache-2.0
"""How the services of an installation know their callers; made by the command line."""

from __future__ import annotations

from typing import Final

from tunesmith_controller.identity.pod_addresses import PodAddresses
from tunesmith_controller.identity.token_reviews import TokenReviews
from tunesmith_controller.identity.trial_pods import TrialPods
from tunesmith_controller.stores.rest_transport import ApiTransport
from tunesmith_observation.authorization import Accounts
from tunesmith_observation.server import Access
from tunesmith_proto.callers import by_token
from tunesmith_proto.guard import Guard, OnlyFor

CONTROLLER: Final = "tunesmith-controller"
"""Its service account, in the namespace of the installation."""
UI: Final = "tunesmith-ui"
"""May read observations."""


def observation_access(transport: ApiTransport, namespace: str, only: str | None = None) -> Access:
    """`only`: the one namespace with trials; None for all."""
    accounts = Accounts(frozenset({(namespace, CONTROLLER)}), frozenset({(namespace, UI)}))
    pods = TrialPods(transport)
    return Access(
        TokenReviews(transport, accounts.controllers | accounts.readers, pods),
        PodAddresses(transport, pods, namespace=only),
        accounts,
    )


def suggestion_guard(transport: ApiTransport, namespace: str) -> Guard:
    """Trials have nothing to ask there, so nobody looks for them."""
    controllers = frozenset({(namespace, CONTROLLER)})
    return Guard(by_token(TokenReviews(transport, controllers)), OnlyFor(controllers))
