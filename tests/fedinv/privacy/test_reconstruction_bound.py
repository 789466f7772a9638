import pytest
from scipy.stats import norm

from fedinv.privacy.reconstruction_bound import reconstruction_bound


@pytest.mark.parametrize(
    ("noise", "published"),
    [(3.7306, 0.155), (1.0812, 0.361), (0.6002, 0.650), (0.3442, 0.948)],
    ids=["1", "4", "8", "16"],
)
def test_one_shot_of_ten_candidates_as_published(noise, published):
    """Noise for epsilon 1, 4, 8, 16 at delta 1e-5."""
    assert reconstruction_bound(0.1, noise) == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize(("kappa", "noise", "steps"), [(0.1, 1.0, 1), (0.01, 2.0, 4), (0.5, 3.0, 10)])
def test_without_sampling_it_is_the_closed_form_and_never_below(kappa, noise, steps):
    closed = norm.cdf(norm.ppf(kappa) + steps**0.5 / noise)
    found = reconstruction_bound(kappa, noise, 1.0, steps)
    assert closed - 1e-9 <= found <= closed + 1e-3


def test_runs_compose():
    assert reconstruction_bound(0.1, 2.0, 1.0, 1, more=[(1.0, 3)]) == pytest.approx(
        reconstruction_bound(0.1, 2.0, 1.0, 4), abs=1e-3
    )
    one = reconstruction_bound(0.1, 2.0)
    assert one < reconstruction_bound(0.1, 2.0, 1.0, 1, more=[(0.2, 5)]) < reconstruction_bound(0.1, 2.0, 1.0, 6)


def test_sampling_hides_and_nothing_spent_tells_nothing():
    assert 0.1 < reconstruction_bound(0.1, 1.0, 0.1, 10) < reconstruction_bound(0.1, 1.0, 1.0, 10)
    assert reconstruction_bound(0.1, 1.0, 1.0, 0) == 0.1
    assert reconstruction_bound(0.1, 0.0) == 1.0
    assert reconstruction_bound(0.1, 1e4) == pytest.approx(0.1, abs=1e-3)


def test_a_chance_out_of_range_is_refused():
    with pytest.raises(ValueError, match="kappa"):
        reconstruction_bound(0.0, 1.0)
