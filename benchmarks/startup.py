"""Seconds that a user waits for the help, a list, and the demo's report, from the shell, and those of computing."""

import resource
import subprocess
import sys
import tempfile
import time

SMALL = ("--set=federation.clients=10", "--set=federation.rounds=3", "--set=attacks=[]")
"""What makes of the demo a federation of ten clients and three rounds that nobody attacks."""


def main() -> None:
    """Print each command's seconds by the clock and of computing: of the quickest of three for the short ones."""
    for arguments, repeats in (
        (["--help"], 3),
        (["list", "attacks"], 3),
        (["run", "hospital", *SMALL], 3),
        (["run", "hospital", "--attack=exact"], 3),
        (["run", "hospital"], 1),
    ):
        seconds, computing = min(_seconds(arguments) for _ in range(repeats))
        print(f"{seconds:6.2f} s, {computing:6.2f} CPU s: fedinv {' '.join(arguments)}")


def _seconds(arguments: list[str]) -> tuple[float, float]:
    """Seconds of a command by the clock, and those of computing by it and its children."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fedinv.cli", *arguments]
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        passed, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
