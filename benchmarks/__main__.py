"""Runs the benchmarks named on the command line, or all of them.

Flags, as `--quick`, and numbers are the benchmarks' own.

`--help` lists them, each with what it measures.
"""

import ast
import sys
from importlib import import_module
from pathlib import Path

from fedinv.errors import nearest

NAMES = (
    "startup",
    "simulation",
    "recording",
    "engines",
    "foreign",
    "apart",
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


def listed(name: str) -> str:
    """A benchmark's name and the first sentence of what it measures, without importing it."""
    said = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))) or ""
    return f"{name:24}{said.partition(chr(10))[0]}"


if __name__ == "__main__":
    if {"--help", "-h"} & set(sys.argv[1:]):
        print("python -m benchmarks [NAME ...] [NUMBER ...] [--quick]: measures what the docs state; all take hours.")
        print("\n".join(map(listed, NAMES)))
        sys.exit()
    for name in [one for one in sys.argv[1:] if not one.startswith("--") and not one.isdecimal()] or NAMES:
        if name not in NAMES:
            sys.exit(f"there is no benchmark {name!r}{nearest(name, NAMES)}")
        print(f"\n== {name}")
        import_module(f"benchmarks.{name}").main()
