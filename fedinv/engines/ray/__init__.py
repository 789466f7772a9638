"""Flower's own simulation, with Ray spreading the clients over this machine or a cluster."""

from fedinv.engines.ray.engine import train

__all__ = ["train"]
