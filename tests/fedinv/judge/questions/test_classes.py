import numpy as np
import pytest
import torch

from fedinv.attack import Attack, Claim, Sample
from fedinv.judge.questions import Heard, Setting, classes
from fedinv.judge.recognition import recognizer
from fedinv.judge.truth import population_of
from fedinv.scenario.reading import loads
from fedinv.storage.observations import trained

RNG = np.random.default_rng(0)
SEEN = trained({"w": torch.zeros(1)}, 3, 4, 24)
FACES = """
name = "few"
seed = 3
[data]
source = "faces"
persons = 5
portraits = 16
size = 16
[model]
kind = "mlp"
hidden = [8]
[federation]
clients = 2
rounds = 1
[training]
algorithm = "fedsgd"
batch_size = 4
lr = 0.1
"""


class Drawing(Attack):
    kind: str = "drawing"


def _setting(text):
    scenario = loads(text)
    return Setting(scenario, population_of(scenario), Drawing(), lambda: pytest.fail("no model is needed"))


def _means(setting):
    rows = np.concatenate(setting.people.shares)
    x, y = setting.people.inputs[rows], setting.people.labels[rows]
    return torch.stack([x[y == c].mean(0) for c in range(len(setting.people.table.schema.classes))])


def _judged(setting, records, labels=None):
    labels = torch.arange(len(records)) if labels is None else labels
    claim = Claim(records, torch.ones(len(records)), labels)
    assert classes.ask(setting, SEEN) is None
    return classes.judge(setting, [Heard(SEEN, None, claim)], RNG)


@pytest.fixture(scope="module")
def faces():
    """Faces whose recognizer is trained once, which takes longest of all."""
    made = {}

    def once(schema, training, held_out, seed):
        asked = (seed, float(training.records.double().sum()), float(held_out.records.double().sum()))
        if asked not in made:
            made[asked] = recognizer(schema, training, held_out, seed)
        return made[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classes, "recognizer", once)
        yield _setting(FACES)


@pytest.mark.slow
def test_mean_images_are_recognized_and_alike(faces):
    finding = _judged(faces, _means(faces))
    named, psnr, ssim = finding.measures
    assert (named.value, named.count, named.prior) == (1.0, 5, 0.2)
    assert named.ci95[1] == 1.0
    assert psnr.value > 60 > psnr.prior
    assert ssim.value == pytest.approx(1, abs=1e-3)
    assert len(finding.exhibits[0].images) == 5
    assert len(finding.exhibits[0].images[0].true) == 3 * 16 * 16


def test_mean_images_of_other_people_are_not(faces):
    finding = _judged(faces, _means(faces).roll(1, 0))
    assert finding.measures[0].value == 0
    assert finding.measures[1].value < 30


@pytest.mark.slow
def test_the_recognizer_is_right_and_the_same_again(faces):
    people = faces.people
    rows = np.concatenate(people.shares)
    training, rest = (Sample(people.inputs[r], people.labels[r]) for r in (rows, people.holdout))
    one, two = (recognizer(people.table.schema, training, rest, 4) for _ in range(2))
    assert one.right / one.asked > 0.9
    first, second = ([p.detach() for p in eye.network.parameters()] for eye in (one, two))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_silence_is_judged_as_the_guess(faces, tiny):
    measures = _judged(faces, torch.zeros(0, 768)).measures
    assert measures[0].value <= 0.2
    assert measures[1].value == pytest.approx(measures[1].prior)
    table = _judged(_setting(tiny), torch.zeros(0, 63)).measures
    assert table[1].value == pytest.approx(table[1].prior)
    assert table[0].value == 0


def test_fields_of_the_means_are_right_and_their_difference_points_the_right_way(tiny):
    setting = _setting(tiny)
    means = _means(setting)
    direction, fields = _judged(setting, means).measures
    assert direction.value == pytest.approx(1)
    assert fields.value == 1
    assert fields.count == 2 * 25
    assert _judged(setting, means.flip(0)).measures[0].value == pytest.approx(-1)


def test_the_order_of_a_claim_does_not_matter(tiny):
    setting = _setting(tiny)
    means = _means(setting)
    told, turned = _judged(setting, means), _judged(setting, means.flip(0), torch.tensor([1, 0]))
    assert told.measures[0].value == pytest.approx(turned.measures[0].value)
    assert told.measures[1].value == turned.measures[1].value
