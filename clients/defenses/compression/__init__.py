"""Defenses that send fewer or coarser numbers."""
