"""Synthetic clinical notes: a public vocabulary, notes that say what the patient's fields say."""

import numpy as np
import pytest

from fedinv.data.sources.clinical_notes import ClinicalNotes, split, vocabulary
from fedinv.errors import RequestError
from fedinv.scenario.reading import parse


@pytest.fixture(scope="module")
def table():
    return ClinicalNotes(source="clinical-notes", records=300).load(5)


def test_the_vocabulary_is_the_same_for_all_and_has_no_word_twice(table):
    words = vocabulary()
    assert table.schema.tokens.words == words
    assert len(set(words)) == len(words) <= 5000
    assert words[0] == ""


def test_a_note_names_its_patient_and_is_cut_at_its_length(table):
    tokens, notes = table.schema.tokens, table.columns["note"]
    assert notes.shape == (300, 32)
    texts = [tokens.text(note) for note in notes]
    assert all(" ".join(split(who)) in text for who, text in zip(table.identities["name"], texts, strict=True))
    assert len(set(texts)) == 300


def test_longer_notes_are_padded_behind_their_end_alone():
    notes = ClinicalNotes(source="clinical-notes", records=50, length=128).load(5).columns["note"]
    ends = (notes != 0).sum(1)
    assert (ends < 128).all()
    assert all((note[:end] != 0).all() and (note[end:] == 0).all() for note, end in zip(notes, ends, strict=True))


def test_notes_depend_on_the_seed(table):
    other = ClinicalNotes(source="clinical-notes", records=300).load(6)
    assert not np.array_equal(other.columns["note"], table.columns["note"])


@pytest.mark.parametrize(
    ("source", "model", "message"),
    [
        ("clinical-notes", "mlp", "'mlp' reads numbers, and data source 'clinical-notes' holds texts: use decoder or"),
        ("hospital", "decoder", "'decoder' reads texts, and data source 'hospital' holds none: use mlp or"),
    ],
)
def test_a_model_that_cannot_read_the_records_is_refused(source, model, message):
    document = {
        "name": "x",
        "data": {"source": source},
        "model": {"kind": model},
        "federation": {"clients": 2, "rounds": 1},
        "training": {"algorithm": "fedsgd"},
    }
    with pytest.raises(RequestError, match=message):
        parse(document, "x")


def test_clients_cannot_be_told_apart_by_a_whole_text():
    source = ClinicalNotes(source="clinical-notes", records=40, partition={"kind": "by-column", "column": "note"})
    with pytest.raises(RequestError, match="holds texts"):
        source.partition.split(source.load(1), 2, np.random.default_rng(1))
