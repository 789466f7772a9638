"""An experiment's declaration, checked to the last key."""

from fedinv.scenario.reading import loads, parse, read
from fedinv.scenario.scenario import Scenario

__all__ = ["Scenario", "loads", "parse", "read"]
