"""Answers to defenses that show the server nothing but a sum."""
