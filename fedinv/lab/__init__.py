"""The lab: a page on this machine on which a scenario is chosen and seen; `fedinv lab` serves it."""
