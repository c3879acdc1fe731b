# SPDX-License-Identifier: Apache-2.0
"""Lets clients of this machine reach the API server of a node in its network namespace.

It inherits a socket that listens on this machine's loopback and runs inside the namespace, so what
it takes comes from out there and what it opens goes to the server in here. `node_tier.py` starts it
as `cluster_forwarder.py DESCRIPTOR HOST PORT`.
"""

import asyncio
import contextlib
import socket
import sys


async def _copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            to.write(data)
            await to.drain()
        to.write_eof()


async def _main(descriptor: int, host: str, port: int) -> None:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()  # as the refusal looks that the client would have got
            return
        try:
            await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))
        finally:
            other_writer.close()
            writer.close()

    listener = socket.socket(fileno=descriptor)
    server = await asyncio.start_server(forward, sock=listener)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
