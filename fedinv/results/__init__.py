"""Outcomes as typed values, their intervals, ranking and wording."""
