"""Options, recipes (YAML files), and the config that they make."""

from .defaults import OPTIONS
from .load import (
    dump_config,
    flatten_config,
    get_defaults,
    load_config,
    make_config,
    marked_config,
    parse_config,
    parse_stored_config,
    shipped_recipes,
)

__all__ = [
    "OPTIONS",
    "dump_config",
    "flatten_config",
    "get_defaults",
    "load_config",
    "make_config",
    "marked_config",
    "parse_config",
    "parse_stored_config",
    "shipped_recipes",
]
