"""An HTTP service that stops itself in the middle: ``python -m tests.stopping_service REQUEST``.

Prints the port on which it listens. It answers until the given request has come, and then sends
itself SIGSTOP: that one and those that follow wait until somebody sends SIGCONT.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def main() -> None:
    last = int(sys.argv[1])
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while await reader.readuntil(b"\r\n\r\n"):
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGSTOP)
            writer.write(ANSWER)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
