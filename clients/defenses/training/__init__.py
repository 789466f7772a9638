"""Defenses that change what a client trains on, or the network that it trains."""
