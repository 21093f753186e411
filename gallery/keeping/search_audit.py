"""Audit of searches: who looked for whom, and when; one line of JSON per search."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...common.files import append_text, check_output_file
from ...common.text import plain_values


class SearchAudit:
    """A file to which searches are appended; its owner alone can read it. May be used by several threads.

    The file grows without limit; it may be moved away at any time (logrotate), the next search makes a new one.

    Args:
        path: the file; made if it does not exist.
    Raises:
        OSError, UserError: nothing can be written there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = check_output_file("--audit", path)
        self._lock = threading.Lock()
        self._append("")

    def record(self, visitor: str, search: dict[str, Any]) -> None:
        """Append a search; raise OSError if it cannot be written: then the search must not be answered.

        Args:
            visitor: who asked, e.g. the address.
            search: what was asked and found, in JSON types.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self._append(json.dumps(plain_values({"time": now, "visitor": visitor, **search})) + "\n")

    def _append(self, line: str) -> None:
        with self._lock:
            is_new = not self.path.exists()
            append_text(self.path, line)
            if is_new:
                with suppress(OSError):  # a file system without rights
                    self.path.chmod(0o600)
