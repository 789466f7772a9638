"""Quantization: the number of entries that share one scale."""

BUCKET = 512
"""Entries of a bucket, which share one scale."""
