"""Defenses that clip and add noise."""
