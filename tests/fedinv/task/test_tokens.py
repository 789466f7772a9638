"""Texts as rows of token ids: what is published of them, and the way to inputs and back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from fedinv.task.columns import Continuous, Tokens, fit_tokens
from fedinv.task.schema import Schema

WORDS = ("", "fever", "no", "pain", ".")
NOTES = np.array([[2, 1, 4, 0], [2, 3, 4, 0], [1, 4, 2, 3]])


@pytest.fixture
def schema():
    return Schema(columns=(fit_tokens("note", NOTES, WORDS),), label="ill", classes=("no", "yes"))


@given(arrays(np.int64, (3, 4), elements=st.integers(0, len(WORDS) - 1)))
def test_ids_come_back_from_inputs_also_after_small_errors(ids):
    tokens = fit_tokens("note", ids, WORDS)
    schema = Schema(columns=(tokens,), label="ill", classes=("no", "yes"))
    inputs = schema.encode({"note": ids})
    assert inputs.dtype == torch.float32
    assert np.array_equal(schema.decode(inputs)["note"], ids)
    assert np.array_equal(schema.decode(inputs + 0.4)["note"], ids)


@given(arrays(np.float32, (2, 4), elements=st.floats(width=32)))
def test_whatever_is_claimed_is_read_as_ids_of_the_vocabulary(inputs):
    read = fit_tokens("note", NOTES, WORDS).decode(inputs.astype(np.float64))
    assert read.dtype == np.int64
    assert ((read >= 0) & (read < len(WORDS))).all()


def test_the_guess_is_the_most_frequent_token_of_each_position(schema):
    assert schema.guess(2).tolist() == [[2, 1, 4, 0], [2, 1, 4, 0]]
    assert (schema.shape, schema.width, schema.fields, schema.table) == ((4, 5), 4, 4, False)


def test_texts_are_drawn_from_the_published_frequencies(schema):
    drawn = schema.draw(3000, np.random.default_rng(1))
    assert set(drawn[:, 0].tolist()) == {1, 2}
    assert float((drawn[:, 0] == 2).float().mean()) == pytest.approx(2 / 3, abs=0.05)


def test_a_text_is_shown_in_words_without_the_padding_behind_it(schema):
    assert schema.tokens.text(NOTES[0]) == "no fever ."
    assert schema.tokens.text(np.array([0, 1, 0, 0])) == "_ fever"
    assert schema.tokens.text(np.zeros(4, int)) == ""


def test_what_is_no_text_of_the_vocabulary_is_refused(schema):
    with pytest.raises(ValueError, match="1 ids are none of the 5"):
        schema.encode({"note": np.array([[1, 2, 5, 0]])})
    with pytest.raises(ValidationError, match="as many shares"):
        Tokens(name="note", words=WORDS, frequent=((1,), (2,)), shares=((1.0,),))
    with pytest.raises(ValidationError, match="ids are from 0 to 4"):
        Tokens(name="note", words=WORDS, frequent=((5,),), shares=((1.0,),))
    age = Continuous(name="age", mean=50, std=10, low=20, high=90, mode=48)
    with pytest.raises(ValidationError, match="a text is all of a record"):
        Schema(columns=(schema.columns[0], age), label="ill", classes=("no", "yes"))
