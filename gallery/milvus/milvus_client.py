"""A connection to Milvus whose calls end in time, and whose errors are in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

PATIENCE = 60.0  # seconds for one call; pymilvus alone tries again for minutes
UNTIMED = ("close", "create_schema", "prepare_index_params")  # they do not call the server
ITERATOR = "query_iterator"
NOT_LOADED = (
    "not loaded"  # in the message of a server that has been started again; the call is repeated once it is loaded
)
GONE = ("unavailable", "connect", "deadline", "timed out", "timeout", "channel", "not ready", "retry")


class CheckedClient:
    """A `MilvusClient`, or an iterator of one, that raises OSError in words.

    Args:
        client: the client.
        path: of the gallery, for messages.
        errors: the exceptions of pymilvus and gRPC.
        is_timed: whether its calls take a `timeout`.
    """

    def __init__(self, client: Any, path: str, errors: tuple[type[Exception], ...], is_timed: bool = True) -> None:
        self._client, self._path, self._errors, self._is_timed = client, path, errors, is_timed

    def __getattr__(self, name: str) -> Any:
        """Return a method that raises OSError where the client's raises an exception of pymilvus or gRPC."""
        found = getattr(self._client, name)
        return self._checked(name, found) if callable(found) else found

    def _checked(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self._is_timed and name not in UNTIMED:
                options.setdefault("timeout", PATIENCE)
            try:
                try:
                    result = method(*args, **options)
                except self._errors as error:
                    if NOT_LOADED not in str(error) or not self._is_timed:
                        raise
                    self._client.load_collection(args[0], timeout=PATIENCE)
                    result = method(*args, **options)
            except self._errors as error:
                raise failed(self._path, name, error) from error
            return CheckedClient(result, self._path, self._errors, False) if name == ITERATOR else result

        return call


def failed(path: str, name: str, error: Exception) -> OSError:
    """Return the error of a failed call in words, with the next step."""
    said = " ".join(str(getattr(error, "message", "") or error).split())[:300]
    lowered = " ".join(map(str, _chain(error))).lower()
    if any(word in lowered for word in ("auth check failure", "unauthenticated", "permission deny", "privilege")):
        return PermissionError(
            f"{path}: the server does not let this program {name.replace('_', ' ')} ({said}); set MILVUS_TOKEN to user:password, or "
            "to a token"
        )
    if not any(word in lowered for word in GONE):
        return OSError(f"{path}: Milvus cannot {name.replace('_', ' ')}: {said}")
    return OSError(
        f"{path}: no answer of Milvus to {name.replace('_', ' ')} ({said}); start the server, open the gallery again and repeat the "
        "call; what was completed before is kept"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that led to it: pymilvus hides that a password is wrong."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # pymilvus raises errors from themselves
        seen.add(id(error))
        yield error
        error = error.__cause__ if error.__cause__ not in (None, error) else error.__context__
