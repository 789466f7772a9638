"""Answers to defenses that send fewer or coarser numbers."""
