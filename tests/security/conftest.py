"""The gallery that the tests of the web server ask."""

from web_fixtures import client, served  # noqa: F401
