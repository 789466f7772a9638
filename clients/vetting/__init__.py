"""Detectors of weights that no honest server sends: one file each, named after its kind; see `fedinv.detector`."""
