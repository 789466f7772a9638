"""Malicious deviations against the detectors of clients that vet the weights they are sent."""
