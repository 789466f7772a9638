"""Reconstruction of records from updates: pure functions over tensors that the attacks share."""
