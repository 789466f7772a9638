import base64

import numpy as np
import pytest
import torch

from fedinv.attack import Exchange, Observation
from fedinv.lab.look import epsilons, left_out, look, warnings
from fedinv.lab.settings import Settings, scenario_of
from fedinv.lab.update_picture import update_picture
from fedinv.privacy.claims import epsilon
from fedinv.privacy.events import PrivacyEvent
from fedinv.results.run import FederationResult, LeftOutClient, Privacy
from fedinv.scenario.reading import loads

from .conftest import SMALL, looked_at


def test_a_look_shows_people_beside_their_reconstructions_and_the_guess(small_look):
    assert small_look.headline.startswith("From one update of each of 2 of 2 hospitals, the server rebuilt 4 of 4")
    assert len(small_look.cards) == 3
    assert all(card.right == len(card.cells) for card in small_look.cards)
    assert small_look.lines[0].says.startswith("4 of 4 records in full")
    assert small_look.lines[0].above == 1.0
    assert small_look.lines[0].guess.startswith("0.0 % in full")


def test_what_the_server_saw_is_said_in_numbers_and_drawn(small_look):
    seen = small_look.seen
    assert seen.whose == "client 1" and seen.records == 2 and seen.norm > 0
    assert base64.b64decode(seen.png).startswith(b"\x89PNG")


def test_no_page_is_written_for_a_look(small_look):
    assert (small_look.folder / "results.json").is_file()
    assert not (small_look.folder / "report.html").exists()


@pytest.mark.parametrize(
    ("defense", "attack", "warned"),
    [
        ('kind = "top-k"', 'kind = "exact"', True),
        ('kind = "top-k"', 'kind = "gradient-matching"', False),
        ('kind = "dp-sgd"\nnoise_multiplier = 2.0', 'kind = "exact"', False),
        ('kind = "masking"', 'kind = "row-space"', False),
    ],
)
def test_a_heuristic_that_nobody_who_knows_of_it_attacked_is_said_to_be_untried(tiny, defense, attack, warned):
    scenario = loads(f"{tiny}[[defenses]]\n{defense}\n[[attacks]]\n{attack}\n")
    epsilon = 3.0 if "dp-sgd" in defense else None
    said = warnings(scenario, Privacy.model_construct(epsilon=epsilon))
    assert len(said) == int(warned)
    assert not warned or "gradient-matching" in said[0]


def test_replies_that_did_not_count_are_said():
    reply = LeftOutClient(round=2, client=7, reason="reaches 13.9, beyond clipping_range 8")
    found = FederationResult.model_construct(left_out=[reply, reply])
    assert left_out(found)[0].startswith("Client 7 does not count in round 2: reaches 13.9, beyond clipping_range 8 (2")
    assert left_out(FederationResult.model_construct(left_out=[])) == ()


def test_stages_are_reported_while_it_works(tmp_path):
    stages: dict[str, list[float]] = {}

    def bars(name):
        stages[name] = []
        return lambda share, now="": stages[name].append(share)

    look(scenario_of(Settings(**SMALL)), tmp_path / "run", bars)
    assert stages["training"][-1] == 1.0 and len(stages) >= 2


@pytest.mark.slow
def test_epsilon_grows_over_the_rounds_up_to_the_claimed_one(tmp_path):
    found = looked_at(tmp_path, defense="dp-sgd", epochs=1)
    rounds, values = zip(*found.epsilons, strict=True)
    assert rounds == (1, 2, 3, 4, 5)
    assert list(values) == sorted(values) and values[0] < values[-1] == found.privacy.epsilon
    assert found.utility.undefended is not None


@pytest.mark.slow
def test_epsilons_are_upper_bounds_of_each_prefix():
    event = PrivacyEvent(
        mechanism="noise",
        unit="example",
        noise_multiplier=1.2,
        sampling_rate=0.1,
        steps=16,
        delta=1e-5,
        neighbors="add-or-remove-one",
    )
    whole = epsilon([event], 1e-5)
    for number, value in epsilons({"0": (event,)}, 4, whole):
        steps = 4 * number
        assert epsilon([PrivacyEvent(**{**vars(event), "steps": steps})], 1e-5) <= value + 1e-9
    assert epsilons({}, 4, None) == ()


def test_the_picture_of_zeros_and_of_what_is_not_finite_is_drawn():
    for values in (torch.zeros(3, 4), torch.tensor([[float("nan"), float("inf")], [1.0, -1.0]])):
        received = {"0.weight": values, "0.bias": torch.zeros(len(values))}
        seen = Observation((0, 1), (Exchange(1, received, received, 8),))
        found = update_picture(seen)
        assert found.whose == "the sum of 2 clients" and found.numbers == values.numel() + len(values)
        assert np.isfinite(found.zeros) and found.png
