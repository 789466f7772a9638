"""Answers to defenses that clip and add noise."""
