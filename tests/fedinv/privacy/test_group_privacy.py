import math

import pytest

from fedinv.data.population import population
from fedinv.plugins import load
from fedinv.privacy.group_privacy import of_group, said
from fedinv.results.run import Privacy
from fedinv.runs.evaluation import _of_people


def test_a_group_s_guarantee_is_the_steps_from_record_to_record():
    assert of_group(0.5, 1e-6, 1) == pytest.approx((0.5, 1e-6))
    assert of_group(0.5, 1e-6, 3) == pytest.approx((1.5, 1e-6 * (1 + math.exp(0.5) + math.exp(1.0))))
    assert of_group(0.0, 1e-6, 4) == pytest.approx((0.0, 4e-6))
    assert of_group(900.0, 1e-6, 3)[1] == math.inf
    assert "no guarantee at all" in said(8.0, 1e-5, 4)
    assert "epsilon 1 at delta" in said(0.5, 1e-5, 2)


@pytest.mark.parametrize(("each", "unit", "noted"), [(4, "example", True), (1, "example", False), (4, "client", False)])
def test_people_with_several_rows_are_told_what_an_epsilon_for_one_says(tmp_path, each, unit, noted):
    path = tmp_path / "visits.csv"
    path.write_text("who,a,y\n" + "".join(f"p{i // each},{i / 3:.2f},{i % 2}\n" for i in range(40)))
    people = population(load("datasets", "csv")(source="csv", path=path, label="y", person="who"), 3, 2, None)
    spent = Privacy(unit=unit, epsilon=0.5, delta=1e-5, accountant="PLD", note="")
    assert bool(_of_people(people, spent)) == noted
    if noted:
        assert "up to 4 rows of a person" in _of_people(people, spent)[0]
