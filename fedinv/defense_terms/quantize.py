"""Quantization's terms: how many entries share one scale."""

BUCKET = 512
