# SPDX-License-Identifier: Apache-2.0
"""Who may ask at all: holders of the token, by a name of this machine, and no other web page.

The Host header is checked against DNS rebinding, the Origin against pages that know the address;
both before the token, which a browser might be made to send.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from tunesmith_controller.apiserver.answers import Fault

_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def admitted(path: str, headers: Mapping[str, str], port: int, token: str) -> str:
    """The path that is asked for, without the token that it may begin with (`/~TOKEN/...`).
    Raises Fault 401, 403."""
    own = {f"{host}:{port}" for host in _HOSTS}
    if headers.get("host", "") not in own:
        raise Fault(403, "Forbidden", "the Host header is not a name of this machine's loopback")
    origin = headers.get("origin")
    if origin is not None and origin not in {f"http://{host}" for host in own}:
        raise Fault(403, "Forbidden", "requests of other web pages are not answered")
    if path.startswith("/~"):
        given, _, rest = path[2:].partition("/")
        if hmac.compare_digest(given.encode(), token.encode()):
            return f"/{rest}"
    scheme, _, given = headers.get("authorization", "").partition(" ")
    is_known = hmac.compare_digest(given.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not is_known:
        raise Fault(401, "Unauthorized", "the token is missing or wrong; it is in the kubeconfig")
    return path
