"""Values in YAML text; aliases cannot multiply them beyond a limit."""

from __future__ import annotations

from typing import Any

import yaml

from ..errors import UserError
from ..text import first_line, num_values

MOST_VALUES = 10_000  # a config has some 150 options


def parse_yaml(text: str, source: str) -> Any:
    """Return the values in YAML text.

    Args:
        source: where the text comes from, for the message.
    Raises:
        UserError: it is no YAML, with its line; or more than MOST_VALUES values.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _unreadable(source, f"{where}{getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise _unreadable(source, "nested too deeply") from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # a date or number that does not exist, …
        raise _unreadable(source, first_line(error)) from None
    if (size := num_values(content)) > MOST_VALUES:
        raise UserError(f"{source}: {size:.0e} values, up to {MOST_VALUES} are accepted; remove its aliases (*name)")
    return content


def _unreadable(source: str, reason: str) -> UserError:
    return UserError(f"{source} is not readable YAML: {reason}; correct it there, or restore the file")
