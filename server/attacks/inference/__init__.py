"""Attacks that ask something else than records: who took part, what a client has or how often, a class."""
