"""Requests that a page of another site sent: a form with files needs no permission of the browser, unlike JSON."""

from __future__ import annotations

from collections.abc import Mapping

from ..request_error import RequestError

OWN = ("same-origin", "none")  # of Sec-Fetch-Site; none = typed or a bookmark


def check_same_site(headers: Mapping[str, str]) -> None:
    """Raise RequestError, 403, for a request of another site's page.

    Browsers add `Sec-Fetch-Site` on localhost and over TLS, and `Origin` to each form; programs send neither.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        is_own = site in OWN
    else:
        is_own = origin is None or origin.partition("://")[2] == headers.get("host", "")
    if not is_own:
        raise RequestError(403, "a page of another site may not change this gallery; use the server's own page")
