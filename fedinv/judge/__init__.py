"""Judges claims and answers against the truth; it never depends on an attack's name."""
