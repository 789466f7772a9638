"""Defenses that show the server nothing but a sum."""
