"""The engine `deployment`: SuperLink and SuperNodes, started on this machine for a rehearsal or running elsewhere."""

from fedinv.engines.deployment.engine import train

__all__ = ["train"]
