"""An experiment's declaration: its tables, read from TOML, every key checked."""

from fedinv.scenario.reading import loads, parse, read
from fedinv.scenario.scenario import Scenario

__all__ = ["Scenario", "loads", "parse", "read"]
