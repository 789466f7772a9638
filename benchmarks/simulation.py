"""Speed with many clients: fedinv and its peers on the same workload, one after the other in one run.

Each peer is used as its own examples use it. pfl and blazefl are installed into virtual environments of their own in
the user's cache folder; Flower and Opacus are the versions that fedinv itself depends on.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.ours import OPTIMIZERS

PEERS = Path(__file__).parent / "peers"
LINE = "{:46} {:>13} {:>9}"


def main() -> None:
    """Print clients trained per second by each simulator, and fedinv's as a multiple of each peer's."""
    print(LINE.format("1,000 clients x 64 records, MLP 32-64-64-2", "clients/s", "1st round"))
    found = {
        "Flower on Ray (200 clients)": peer("flower_driver", sys.executable, 200, 3),
        "blazefl, sequential": peer("blazefl_driver", environment("blazefl", "2.0.3", "3.12"), 1000, 4),
        "pfl, one process": peer("pfl_driver", environment("pfl", "0.6.0", "3.11"), 1000, 5),
        "pfl, two processes": peer("pfl_driver", environment("pfl", "0.6.0", "3.11"), 1000, 5, processes=2),
        "plain PyTorch loop, no simulator": peer("loop_driver", sys.executable, 1000, 4),
        "fedinv, through Flower's messages": ours("messages", 1000, 8),
        "fedinv, the cohort's training alone": ours("cohort", 1000, 8),
    }
    for name, figures in found.items():
        show(name, figures)
    whole = found["fedinv, through Flower's messages"]["clients_per_s"]
    for name, figures in found.items():
        if figures and not name.startswith("fedinv"):
            print(f"  through messages, x {whole / figures['clients_per_s']:.1f} {name}")
    print("\ndp-sgd, noise 1, clip 1")
    opacus = peer("opacus_driver", sys.executable, 200, 3)
    stacked, messages = ours("cohort-dp", 1000, 4), ours("messages-dp", 1000, 4)
    for name, figures in (
        ("Opacus, made for each client (200 clients)", opacus),
        ("fedinv, through Flower's messages", messages),
        ("fedinv, the cohort's training alone", stacked),
    ):
        show(name, figures)
    if opacus:
        print(f"  through messages, x {messages['clients_per_s'] / opacus['clients_per_s']:.1f} Opacus")
        print(f"  training alone,   x {stacked['clients_per_s'] / opacus['clients_per_s']:.1f} Opacus")
    optimizers()
    print("\ngrowth, records drawn when asked for, one round of all")
    small, large = ours("drawn", 1000, 1), ours("drawn", 10_000, 1)
    print(f"  1,000 clients {small['seconds']:.1f} s, 10,000 clients {large['seconds']:.1f} s: ", end="")
    print(f"x {large['seconds'] / small['seconds']:.1f}")
    big = ours("sampled", 10_000, 50)
    print(f"  10,000 clients, 100 a round, 50 rounds: {big['seconds']:.1f} s, {big['resident_gib']:.2f} GiB resident")
    print(f"\n10 clients, 3 rounds, from the shell to the report: {from_the_shell():.1f} s")
    if ours("cohort-gpu", 10, 1):
        print("\non the GPU")
        show("fedinv, the cohort's training alone", ours("cohort-gpu", 10_000, 4))


def optimizers() -> None:
    """Print clients trained per second by each optimizer, through messages and by the cohort's training alone."""
    print("\noptimizers, 1,000 clients")
    print(LINE.format("", "messages", "training"))
    for name in OPTIMIZERS:
        through, alone = (ours(f"{work}-{name}", 1000, 5)["clients_per_s"] for work in ("messages", "cohort"))
        print(LINE.format(name, f"{through:,.0f}", f"{alone:,.0f}"))


def show(name: str, figures: dict[str, float]) -> None:
    """Print one line of the table; a simulator without figures is shown as not available."""
    rate, first = figures.get("clients_per_s"), figures.get("first_round_s", 0.0)
    print(LINE.format(name, f"{rate:,.0f}" if rate else "not here", f"{first:.1f} s" if rate else ""))


def ours(work: str, clients: int, rounds: int) -> dict[str, float]:
    """Run one of fedinv's workloads in a process of its own, and return its figures by name."""
    return _run([sys.executable, "-m", "benchmarks.ours", work, "--clients", str(clients), "--rounds", str(rounds)])


def peer(driver: str, python: str | None, clients: int, rounds: int, processes: int = 1) -> dict[str, float]:
    """Run a peer's driver with a Python of its own, and return its figures by name; empty without that Python."""
    if python is None:
        return {}
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return _run([python, *several, str(PEERS / f"{driver}.py"), "--clients", str(clients), "--rounds", str(rounds)])


def _run(command: list[str]) -> dict[str, float]:
    told = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=told)
    try:
        figures: dict[str, float] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    except (ValueError, IndexError):
        return {}
    return figures


def environment(package: str, version: str, python: str) -> str | None:
    """The Python of a virtual environment with a peer, which is created on first use; None where that fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fedinv-benchmarks"
    made = cache / f"{package}-{version}" / "bin" / "python"
    check = [str(made), "-c", f"import {package}, torch"]
    if made.exists() and subprocess.run(check, capture_output=True, cwd=PEERS).returncode == 0:
        return str(made)
    base = shutil.which(f"python{python}")
    if base is None:
        print(f"{package} needs Python {python}, which is not here")
        return None
    try:
        subprocess.run([base, "-m", "venv", "--clear", str(made.parents[1])], check=True, capture_output=True)
        wanted = ["torch==2.13.0", f"{package}=={version}", "tqdm", "numpy"]
        subprocess.run([str(made), "-m", "pip", "install", "-q", *wanted], check=True, capture_output=True)
        subprocess.run(check, check=True, capture_output=True, cwd=PEERS)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{package} {version} does not install here ({type(error).__name__})")
        return None
    return str(made)


def from_the_shell() -> float:
    """Wall-clock seconds of a small run from the shell to its report, the best of three."""
    import tempfile

    changes = ["federation.clients=10", "federation.rounds=3", "attacks=[]"]
    command = [sys.executable, "-m", "fedinv.cli", "run", "hospital", *(f"--set={change}" for change in changes)]
    seconds = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            paths = os.pathsep.join(sys.path)
            began = time.perf_counter()
            told = {**os.environ, "PYTHONPATH": paths}
            subprocess.run(command, cwd=folder, check=True, capture_output=True, env=told)
            seconds.append(time.perf_counter() - began)
    return min(seconds)
