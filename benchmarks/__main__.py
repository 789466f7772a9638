"""Runs the benchmarks named on the command line, or all of them. Flags, as `--quick`, are the benchmarks' own."""

import sys
from importlib import import_module

from fedinv.errors import nearest

NAMES = (
    "startup",
    "simulation",
    "recording",
    "engines",
    "foreign",
    "gate",
    "malicious",
    "malicious_first_layer",
    "probing",
    "exact",
    "verified",
    "adult",
    "grid",
    "malicious_rounds",
    "detectors",
    "false_alarms",
    "large",
    "guess",
    "coverage",
    "matching",
    "unrolled",
    "sign",
    "zeros",
    "tabular",
    "signals",
    "text",
    "columns",
    "breaching",
    "lineup",
    "audit",
    "pricing",
    "dp",
    "seeds",
    "kills",
    "hostile",
)
"""Every benchmark, by the name of its module, in the order of a full run."""

if __name__ == "__main__":
    for name in [one for one in sys.argv[1:] if not one.startswith("--")] or NAMES:
        if name not in NAMES:
            sys.exit(f"there is no benchmark {name!r}{nearest(name, NAMES)}")
        print(f"\n== {name}")
        import_module(f"benchmarks.{name}").main()
