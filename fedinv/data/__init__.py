"""Data sets: their sources, and their partition over the clients."""
