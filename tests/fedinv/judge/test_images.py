import numpy as np
import pytest
import torch

from fedinv.attack import Claim
from fedinv.data.population import Population
from fedinv.data.sources.digits import Digits
from fedinv.data.table import Table
from fedinv.judge.images import MOST, quality
from fedinv.judge.matching import match
from fedinv.judge.verdict import Case, judge
from fedinv.task.columns import Image
from fedinv.task.schema import Schema


@pytest.fixture(scope="module")
def people():
    table = Digits(source="digits", records=60).load(1)
    return Population(
        table=table,
        inputs=table.schema.encode(table.columns),
        labels=torch.from_numpy(table.labels),
        shares=(np.arange(30), np.arange(30, 50)),
        holdout=np.arange(50, 60),
    )


def judged(people, claims, rows):
    return judge([Case(Claim(claims, torch.ones(len(claims))), rows)], people, 0.319, np.random.default_rng(0))


def test_psnr_is_its_definition_and_is_cut_off(people):
    image, true = people.table.schema.image, people.table.columns["image"][:2]
    found = quality(np.stack([true[0], true[1] + 0.1]), true, image)
    assert found.psnr[0] == MOST
    assert found.psnr[1] == pytest.approx(20.0)
    assert found.ssim[0] == pytest.approx(1.0)
    assert 0.5 < found.ssim[1] < 1


def test_ssim_is_its_definition(people):
    """Wang et al. 2004, equation 13: Gaussian windows of 11 x 11 with a standard deviation of 1.5."""
    image, pixels = people.table.schema.image, people.table.columns["image"][[0, 1]]
    true, claimed = pixels
    x, y = (np.pad(one.reshape(8, 8), 5, mode="reflect") for one in pixels)
    bell = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / np.outer(bell, bell).sum()
    values = []
    for i in range(8):
        for j in range(8):
            a, b = (one[i : i + 11, j : j + 11] for one in (x, y))
            at, bt = (window * a).sum(), (window * b).sum()
            covariance = (window * (a - at) * (b - bt)).sum()
            spread = (window * (a - at) ** 2).sum() + (window * (b - bt) ** 2).sum()
            values.append((2 * at * bt + 1e-4) * (2 * covariance + 9e-4) / ((at**2 + bt**2 + 1e-4) * (spread + 9e-4)))
    assert quality(claimed[None], true[None], image).ssim[0] == pytest.approx(np.mean(values), abs=1e-6)


def test_the_truth_in_any_order_is_matched_and_exact(people):
    order = np.random.default_rng(0).permutation(20)
    truth = people.table.take(np.arange(20)).columns
    found = match(people.inputs[:20][order], truth, people.table.schema, 0.319)
    assert found.exact.all()
    assert np.array_equal(order[found.claim], np.arange(20))
    assert found.right.shape == (20, 64)


def test_the_truth_scores_highest_and_the_guesser_far_below(people):
    rows = np.arange(8)
    _, rates = judged(people, people.inputs[rows], rows)
    assert rates.images.psnr.value > 99
    assert rates.images.ssim.value == pytest.approx(1, abs=1e-5)
    assert rates.images.psnr.prior < 15
    assert rates.images.ssim.prior < 0.3
    assert rates.field_accuracy.count == 8 * 64
    assert rates.recovered.value == rates.exact.value == 1


def test_pixels_within_the_tolerance_are_right_and_not_exact(people):
    rows, nudged = np.arange(8), people.inputs[:8].clone()
    nudged[:, :32] += 0.2 * torch.where(nudged[:, :32] > 0, -1, 1)
    _, rates = judged(people, nudged, rows)
    assert rates.recovered.value == 1
    assert rates.exact.value == 0
    nudged[:, 0] += 2
    assert judged(people, nudged, rows)[1].recovered.value == 0


@pytest.mark.parametrize("width", [64, 10])
def test_silence_is_worth_the_guess_and_no_more(people, width):
    _, rates = judged(people, torch.zeros(0, width), np.arange(8))
    assert rates.images.psnr.value == pytest.approx(rates.images.psnr.prior, abs=0.01)
    assert rates.recovered.value == 0


def test_claims_that_are_not_finite_are_judged_and_not_believed(people):
    _, rates = judged(people, torch.full((8, 64), torch.nan), np.arange(8))
    assert rates.recovered.value == 0
    assert np.isfinite(rates.images.psnr.value)


@pytest.mark.parametrize("claims", [0, 2])
def test_an_empty_batch_counts_for_nothing(people, claims):
    """Under Poisson sampling a batch may hold no record."""
    empty = Case(Claim(people.inputs[:claims], torch.ones(claims)), np.arange(0))
    some = Case(Claim(people.inputs[:2], torch.ones(2)), np.arange(2))
    _, rates = judge([empty, some], people, 0.319, np.random.default_rng(0))
    assert rates.images.psnr.count == 2
    assert rates.images.psnr.value > 99
    assert rates.field_accuracy.value == rates.field_accuracy.ci95[1] == 1
    assert judge([empty], people, 0.319, np.random.default_rng(0))[1].images is None


def test_tiny_images_have_no_ssim_and_still_a_psnr():
    image = Image(name="photo", channels=1, down=4, across=5, mean=0.5, std=0.3, low=0, high=1)
    pixels = np.random.default_rng(0).random((6, 20))
    schema = Schema(columns=(image,), label="who", classes=("a", "b"))
    table = Table(schema=schema, columns={"photo": pixels}, labels=np.arange(6) % 2)
    inputs = schema.encode(table.columns)
    tiny = Population(table, inputs, torch.from_numpy(table.labels), (np.arange(4),), np.arange(4, 6))
    _, rates = judged(tiny, inputs[:4], np.arange(4))
    assert rates.images.ssim is None
    assert rates.images.psnr.value > 99
