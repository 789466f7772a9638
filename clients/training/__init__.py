"""Local training: what a client does with its records in a round."""
