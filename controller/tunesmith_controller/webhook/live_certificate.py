# SPDX-License-Identifier: Apache-2.0
"""A TLS context whose certificate is exchanged while it serves: connections that come later get
the new one, those that are open stay."""

from __future__ import annotations

import os
import ssl
from datetime import datetime
from typing import Final

from tunesmith_controller.ports import Unavailable
from tunesmith_controller.webhook.certificates import Pair

_ANONYMOUS: Final = "tunesmith-certificate"


class LiveCertificate:
    """`context` is for a server; it can serve once something was loaded."""

    def __init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.loaded: Pair | None = None

    @property
    def not_after(self) -> datetime | None:
        """When what is served expires; None while nothing is."""
        return self.loaded.parsed.not_valid_after_utc if self.loaded else None

    def load(self, pair: Pair) -> bool:
        """Whether it is another one than before. Raises Unavailable for what does not fit."""
        if pair == self.loaded:
            return False
        # OpenSSL reads files; the key need not touch a disk for it.
        descriptor = os.memfd_create(_ANONYMOUS)
        try:
            os.write(descriptor, pair.certificate + b"\n" + pair.key)
            for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
                # What does not fit would leave a context without any key: it is tried before.
                context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        except ssl.SSLError as error:
            raise Unavailable(f"a certificate and its key do not fit: {error}") from error
        finally:
            os.close(descriptor)
        self.loaded = pair
        return True
