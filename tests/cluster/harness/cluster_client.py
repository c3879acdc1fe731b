# SPDX-License-Identifier: Apache-2.0
"""A small HTTPS client of a test cluster's API, and the kubeconfig files that name it.

For set-up and assertions of tests; what is under test brings its own client.
"""

import base64
import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Refused(AssertionError):
    """The API server answered with a failure; `code` and `status` say which."""

    def __init__(self, method: str, path: str, code: int, status: Json) -> None:
        super().__init__(f"{method} {path}: {code} {status.get('message', status)}")
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class ApiClient:
    """Requests to one API server by the cluster's administrator, or by a token's owner."""

    host: str
    port: int
    authority: Path
    certificate: Path
    key: Path

    def request(self, method: str, path: str, body: Json | None = None, token: str = "") -> Json:
        """The decoded answer. Raises Refused from 400 on, OSError where nobody answers."""
        code, content = self.raw(method, path, body, token)
        answer: Json = json.loads(content) if content.startswith(b"{") else {}
        if code >= 400:
            raise Refused(method, path, code, answer or {"message": content.decode()})
        return answer

    def raw(
        self, method: str, path: str, body: Json | None = None, token: str = ""
    ) -> tuple[int, bytes]:
        """Status code and content as they are."""
        context = ssl.create_default_context(cafile=str(self.authority))
        headers = {"Content-Type": _content_type(method), "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        else:
            context.load_cert_chain(self.certificate, self.key)
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=60, context=context)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def ready(self, path: str = "/readyz") -> bool:
        """Whether the server says that it is ready; one of another cluster is not."""
        try:
            return self.raw("GET", path)[0] == 200
        except (OSError, http.client.HTTPException):
            return False


def _content_type(method: str) -> str:
    return "application/merge-patch+json" if method == "PATCH" else "application/json"


def kubeconfig(server: str, authority: Path, user: Json) -> str:
    """A kubeconfig with one context, `test`, whose user is `user` (JSON is YAML too)."""
    certificate = base64.b64encode(authority.read_bytes()).decode()
    cluster = {"server": server, "certificate-authority-data": certificate}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        },
        indent=1,
    )


def certificate_user(certificate: Path, key: Path) -> Json:
    """The user of a kubeconfig who shows a client certificate."""
    return {
        "client-certificate-data": base64.b64encode(certificate.read_bytes()).decode(),
        "client-key-data": base64.b64encode(key.read_bytes()).decode(),
    }
