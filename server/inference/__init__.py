"""Inference of what is no claimed record: classes, attributes, membership, line-ups; posteriors and generators."""
