"""Inference beside reconstruction: classes, attributes, membership, likelihoods, posteriors and generators."""
