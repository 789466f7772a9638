"""Wall-clock seconds that a user waits for the help, a list, and the demo's report, from the shell."""

import subprocess
import sys
import tempfile
import time


def main() -> None:
    """Print wall-clock seconds of each command: the best of three for the short ones."""
    for arguments, repeats in ((["--help"], 3), (["list", "attacks"], 3), (["run", "hospital"], 1)):
        seconds = min(_seconds(arguments) for _ in range(repeats))
        print(f"fedinv {' '.join(arguments):14} {seconds:6.2f} s")


def _seconds(arguments: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fedinv.cli", *arguments]
        begun = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - begun
