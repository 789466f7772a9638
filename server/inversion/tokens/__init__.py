"""Reads texts off the spans of a transformer's update."""
