from pathlib import Path

import pytest
import torch

from fedinv.attack import Attack, Claim, Exchange, Observation, Sample
from fedinv.errors import RunError
from fedinv.runs import attack_runner
from fedinv.runs.context import Grants, TrainedRun
from fedinv.scenario.reading import loads
from fedinv.storage.run_folder import RunFolder

HERE = Path(__file__).name
NOTHING = Claim(torch.zeros(0, 1), torch.zeros(0))


def _helper(seen):
    return seen.last.sent["no such layer"]


class Raising(Attack):
    kind: str = "raising"
    how: str

    def run(self, seen, knows, rng, progress):
        if self.how == "exits":
            raise SystemExit("of its own accord")
        if self.how == "lines":
            raise ValueError("one\ntwo")
        return _helper(seen)


class Returning(Attack):
    kind: str = "returning"
    nothing: bool = False
    width: int = 1
    confidence: float = 1.0

    def run(self, seen, knows, rng, progress):
        return None if self.nothing else Claim(torch.ones(1, self.width), torch.full((1,), self.confidence))


class Changing(Attack):
    kind: str = "changing"
    what: str

    def run(self, seen, knows, rng, progress):
        tensor = seen.last.received["0.weight"] if self.what == "update" else knows.auxiliary.records
        tensor.add_(1)
        return NOTHING


def attacked(tiny, folder, attack):
    (folder / "schema.json").write_text(
        '{"columns": [{"kind": "continuous", "name": "x", "mean": 0, "std": 1, "low": -1, "high": 1, "mode": 0}], '
        '"label": "y", "classes": ["a", "b"]}'
    )
    seen = Observation((5,), (Exchange(2, {"0.weight": torch.zeros(2, 1)}, {"0.weight": torch.zeros(2, 1)}, 1),))
    run = TrainedRun(loads(tiny), RunFolder(folder))
    vars(run)["seen"] = (seen,)
    grants = Grants(auxiliary=Sample(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)))
    return attack_runner.run_attack(run, attack_runner.control_plan(attack), grants, lambda _: None)


def line_of(code):
    """Where a line of this file is."""
    return 1 + next(i for i, line in enumerate(Path(__file__).read_text().splitlines()) if line.strip() == code)


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("fails", 'return seen.last.sent["no such layer"]', "KeyError: 'no such layer'"),
        ("exits", 'raise SystemExit("of its own accord")', "SystemExit: of its own accord"),
        ("lines", 'raise ValueError("one\\ntwo")', "ValueError: one two"),
    ],
)
def test_what_an_attack_raises_is_one_line_with_its_file_and_line(tiny, tmp_path, how, code, said):
    with pytest.raises(RunError) as caught:
        attacked(tiny, tmp_path, Raising(how=how))
    words = str(caught.value)
    assert words.startswith("attack 'raising' on round 2, client 5 failed at ")
    assert words.endswith(f"{HERE}:{line_of(code)}: {said}")
    assert "\n" not in words


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nothing": True}, "returns a Claim, not None"),
        ({"width": 3}, r"records must be .*\(1, 1\), not \(1, 3\)"),
        ({"confidence": 7}, "confidence must be probabilities"),
    ],
)
def test_what_an_attack_returns_wrong_names_its_file_and_what_to_return(tiny, tmp_path, settings, said):
    with pytest.raises(RunError, match=rf"attack 'returning' on round 2, client 5 \(.*{HERE}\): .*{said}"):
        attacked(tiny, tmp_path, Returning(**settings))
    assert not (tmp_path / "claims").exists()


@pytest.mark.parametrize("what", ["update", "auxiliary"])
def test_an_attack_that_changes_what_it_is_given_is_found_out(tiny, tmp_path, what):
    with pytest.raises(RunError, match=rf"{HERE}\): it changed a tensor that it was given: change a \.clone\(\)"):
        attacked(tiny, tmp_path, Changing(what=what))


def test_a_right_claim_passes(tiny, tmp_path):
    ((_, claim),) = attacked(tiny, tmp_path, Returning()).said
    assert claim.records.tolist() == [[1.0]]
