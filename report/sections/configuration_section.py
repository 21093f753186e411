"""The options and the environment of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..page.components import Component, Section, Table
from ..run_contents import RunContents


def about_section(run: RunContents) -> Section | None:
    """Return the options, those that differ from the defaults first, and the environment; None if nothing is known."""
    changed = [option for option in run.options if option.is_changed]
    others = [option for option in run.options if not option.is_changed]
    parts: list[Component] = []
    if changed:
        head = ["option", "value", "default", "meaning"]
        body = [[o.key, show(o.value), show(o.default), o.help] for o in changed]
        parts.append(Table("Options that differ from the defaults", [head, *body], kind="texts"))
    if others:
        rows = [["option", "value"], *([option.key, show(option.value)] for option in others)]
        parts.append(Table(f"The other {len(others)} options, at their defaults", rows, folded=True))
    if run.environment:
        parts.append(
            Table("Environment", [["what", "value"], *([name, value] for name, value in run.environment.items())])
        )
    if not parts:
        return None
    reading = "The run can be repeated with these options and versions." if run.options else "What is known of the run."
    return Section("about", "Configuration and environment", reading, parts)


def option_differences(runs: Sequence[RunContents]) -> Section | None:
    """Return the options in which the runs differ, a column per run; None if the options are not known."""
    values = [{option.key: option.value for option in run.options} for run in runs]
    if not all(values):
        return None
    keys = [key for key in values[0] if key != "OUTPUT_DIR" and len({show(own.get(key)) for own in values}) > 1]
    head = ["option", *(run.name for run in runs)]
    rows = [[key, *(show(own.get(key)) for own in values)] for key in keys]
    reading = "What may explain the differences." if rows else "The runs have the same options."
    parts: list[Component] = [Table("Options in which the runs differ", [head, *rows])] if rows else []
    return Section("options", "Configuration", reading, parts)


def show(value: Any) -> str:
    """Return an option's value as in a YAML file.

    >>> show((128, 64)), show(""), show(True), show(0.001)
    ('[128, 64]', "''", 'True', '0.001')
    """
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(show(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value) or "''"
