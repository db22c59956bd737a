"""How the keys of an issuer come: Tornado's client, for it is once in minutes, and from outside.

No redirect is followed: who may answer for the issuer is what the URL says. A proxy of the
environment is not used, and certificates are checked against the system's authorities.
"""

from __future__ import annotations

from typing import Final

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError, SimpleAsyncHTTPClient

from siger_gateway.filters.key_set import FETCH_TIMEOUT, Fetch

MOST_BYTES: Final = 256 * 1024
"""As ``jwks.MOST_BYTES``, which is not imported here: cryptography comes with it."""


def fetching(url: str) -> Fetch:
    """Brings what stands at ``url``; raises ``OSError`` when it does not."""
    client = SimpleAsyncHTTPClient(force_instance=True, max_body_size=MOST_BYTES)
    request = HTTPRequest(
        url,
        headers={"Accept": "application/jwk-set+json, application/json"},
        connect_timeout=FETCH_TIMEOUT,
        request_timeout=FETCH_TIMEOUT,
        follow_redirects=False,
    )

    async def fetch() -> bytes:
        try:
            response = await client.fetch(request)
        except HTTPTimeoutError:
            raise OSError("no answer in time") from None
        except HTTPStreamClosedError:
            raise OSError("the connection broke off, or the answer is too large") from None
        except HTTPClientError as error:
            raise OSError(f"status {error.code}") from None
        return response.body

    return fetch
