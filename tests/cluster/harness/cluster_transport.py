# SPDX-License-Identifier: Apache-2.0
"""`ApiTransport` to a test cluster, as its administrator or as a service account with all rights.

For tests of what speaks `ApiTransport`; a controller brings the transport of `stores`.
"""

import ssl

import httpx
from running_cluster import Cluster

from tunesmith_controller.stores.rest_transport import HttpTransport


def transport_to(cluster: Cluster, token: str = "") -> HttpTransport:
    """As the token's owner, without one as the administrator. For one event loop."""
    api = cluster.api
    tls = ssl.create_default_context(cafile=str(api.authority))
    if not token:
        tls.load_cert_chain(api.certificate, api.key)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = HttpTransport(f"https://{api.host}:{api.port}")
    transport._client = httpx.AsyncClient(
        base_url=f"https://{api.host}:{api.port}",
        headers=headers,
        timeout=httpx.Timeout(30, connect=5),
        limits=httpx.Limits(max_keepalive_connections=20),
        trust_env=False,
        verify=tls,
    )
    return transport


def account_with_all_rights(cluster: Cluster, namespace: str, name: str) -> str:
    """The token of a service account that may do anything."""
    token = cluster.service_account_token(namespace, name)
    cluster.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"{namespace}-{name}"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
        }
    )
    return token
