"""Drivers of other projects' simulators and attacks, each run with a Python of its own where it needs one."""
