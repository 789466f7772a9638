"""Claims against the truth: it knows both, and never an attack by name."""
