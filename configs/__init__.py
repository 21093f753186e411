"""Options, recipes, and how they become a config."""

from .defaults import OPTIONS
from .load import dump_config, flatten_config, get_defaults, load_config, make_config, parse_config

__all__ = ["OPTIONS", "dump_config", "flatten_config", "get_defaults", "load_config", "make_config", "parse_config"]
