import numpy as np
import pytest

from fedinv.data.sources.breast_cancer import BreastCancer
from fedinv.errors import RequestError


def test_all_biopsies_are_there():
    people = BreastCancer(source="breast-cancer").load(1)
    assert len(people) == 569
    assert people.schema.width == len(people.schema.columns) == 30
    assert people.schema.classes == ("malignant", "benign")
    assert (people.labels == 0).sum() == 212
    assert people.identities is None


def test_a_part_is_drawn_by_the_seed():
    part, same, other = (BreastCancer(source="breast-cancer", records=50).load(seed) for seed in (1, 1, 2))
    assert len(part) == 50
    assert np.array_equal(part.columns["mean radius"], same.columns["mean radius"])
    assert not np.array_equal(part.columns["mean radius"], other.columns["mean radius"])


def test_more_than_there_are_is_refused():
    with pytest.raises(RequestError, match="570 is more than the 569 biopsies"):
        BreastCancer(source="breast-cancer", records=570).load(1)
