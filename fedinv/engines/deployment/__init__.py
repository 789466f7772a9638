"""A real deployment: SuperLink and SuperNodes, started here for a rehearsal or joined where they run."""

from fedinv.engines.deployment.engine import train

__all__ = ["train"]
