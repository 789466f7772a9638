"""Synthetic clinical notes about the hospital's patients.

Each note is put together from the patient's fields by templates: an opening with the name, then sentences in random
order, in one of several wordings each, cut at `length` tokens. Words are lower case and signs are tokens of their own;
a number is the token of its whole part and, where it has one, that of its decimal, such as "8" and ".2".
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedinv.data.dataset import Dataset
from fedinv.data.sources._synthetic import Strings, identities
from fedinv.data.sources.hospital import VALUES, Hospital
from fedinv.data.table import Table
from fedinv.federation.streams import stream
from fedinv.task.columns import fit_tokens
from fedinv.task.schema import Schema

LARGEST = 420
"""Largest whole number that the vocabulary has a token for; the table's numbers are at most that."""
OPENINGS = (
    "{name} , {age} years old , {sex} , was admitted with {diagnosis} .",
    "{age} year old {sex} patient {name} presents with {diagnosis} .",
    "patient : {name} . {sex} , aged {age} . main diagnosis {diagnosis} .",
    "seen today : {name} ( {sex} , {age} ) because of {diagnosis} .",
)
SENTENCES: Mapping[str, tuple[str, ...]] = {
    "admission": ("{admission} admission .", "came in as {admission} case ."),
    "pressure": ("blood pressure {systolic} over {diastolic} .", "bp {systolic} / {diastolic} , pulse {heart_rate} ."),
    "oxygen": ("oxygen saturation {oxygen_saturation} percent .", "saturation {oxygen_saturation} on arrival ."),
    "kidney": ("creatinine {creatinine} .", "kidney values : creatinine {creatinine} , hemoglobin {hemoglobin} ."),
    "sugar": ("hba1c is {hba1c} .", "long term sugar {hba1c} percent , bmi {bmi} ."),
    "crp": ("crp {crp} .", "inflammation marker crp at {crp} ."),
    "drug": ("started on {drug_class} .", "{drug_class} given , {medications} drugs in all ."),
    "psychiatric": ("known {psychiatric} .", "treated for {psychiatric} before ."),
    "substance_use": ("uses {substance_use} .", "history of {substance_use} use ."),
    "hiv": ("hiv {hiv} .", "test for hiv was {hiv} ."),
    "smoking": ("{smoking} smoker .", "smoking : {smoking} ."),
    "stay": ("stayed {length_of_stay} days .", "{length_of_stay} days on the ward , then {discharge} ."),
    "insurance": ("insurance : {insurance} .", "insured by {insurance} ."),
}
"""Wordings of each sentence; what has the value "none" or "never" is left out of a note, as doctors leave it out."""
_SIGNS = re.compile(r"(\d+)(\.\d+)?|[a-z0-9+&'-]+|[^\sa-z0-9]")


class ClinicalNotes(Dataset):
    """Synthetic clinical notes, token by token, with the label `readmitted`, about the hospital's patients."""

    texts = True
    people = "clinical notes"
    parties = "hospitals"

    source: Literal["clinical-notes"]
    records: int = Field(default=2000, ge=20, le=100_000)
    """Number of notes, each about another patient."""
    length: int = Field(default=32, ge=8, le=128)
    """Tokens of a note, 8 to 128: of longer notes the first ones, shorter ones are padded."""

    def load(self, seed: int) -> Table:
        """Write the notes: (records, length) ids that depend on the seed, the count and the length alone."""
        rng = stream(seed, "clinical notes")
        columns, readmitted = Hospital.draw(rng, self.records)
        who = identities(stream(seed, "clinical notes", "people"), columns["age"], columns["sex"] == "female")
        words = vocabulary()
        ids = _written({**columns, "name": who["name"]}, self.length, rng)
        note = f"{self.records} synthetic notes in {len(words) - 1} words: no real person is in them"
        return Table(
            schema=Schema(columns=(fit_tokens("note", ids, words),), label="readmitted", classes=("no", "yes")),
            columns={"note": ids},
            labels=readmitted,
            identities=who,
            notes=(note,),
        )


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """All words, the same for every seed: the padding first, then in alphabetic order."""
    from faker.providers.person.en_US import Provider

    fixed = [*OPENINGS, *(wording for wordings in SENTENCES.values() for wording in wordings)]
    texts = [re.sub(r"{\w+}", "", text) for text in fixed] + [value for values in VALUES.values() for value in values]
    texts += [*Provider.first_names_female, *Provider.first_names_male, *Provider.last_names]
    texts += [str(number) for number in range(LARGEST + 1)] + [f"0.{digit}" for digit in range(1, 10)]
    return ("", *sorted({word for text in texts for word in split(text)}))


def split(text: str) -> list[str]:
    """The tokens of a text: words in lower case, signs, and numbers as a whole part and a decimal."""
    return [part for found in _SIGNS.finditer(text.lower()) for part in (found.groups() if found[1] else (found[0],))
            if part]  # fmt: skip


def _written(people: Mapping[str, NDArray[Any] | Strings], length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Notes about n people, ids (n, length)."""
    index = {word: at for at, word in enumerate(vocabulary())}
    count = len(people["name"])
    openings = rng.integers(0, len(OPENINGS), count)
    orders = rng.permuted(np.tile(np.arange(len(SENTENCES)), (count, 1)), axis=1)
    wordings = rng.integers(0, 2, (count, len(SENTENCES)))
    sentences = tuple(SENTENCES.items())
    found = np.zeros((count, length), np.int64)
    for row in range(count):
        fields = {name: _said(values[row]) for name, values in people.items()}
        parts = [OPENINGS[openings[row]].format(**fields)]
        for at in orders[row]:
            name, both = sentences[at]
            if fields.get(name) not in ("none", "never"):
                parts.append(both[wordings[row, at]].format(**fields))
        ids = [index[word] for word in split(" ".join(parts))][:length]
        found[row, : len(ids)] = ids
    return found


def _said(value: Any) -> str:
    """A field of the table as the note has it: numbers with one decimal at most, and none that is zero."""
    if isinstance(value, str):
        return str(value)
    return f"{float(value):.1f}".removesuffix(".0")
