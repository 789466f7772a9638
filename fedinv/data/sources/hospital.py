"""Synthetic hospital stays, 25 columns; back within 30 days?

The causal model, each arrow a dependence of the draw (numbers from a seeded generator, no real person in them)::

    age, sex, blood type                            drawn from the adults of an inpatient ward
    hardship (not recorded)                      -> all of insurance, smoking, substance use, psychiatric, hiv, bmi
    age                                          -> insurance
    age, sex                                     -> smoking, substance use, psychiatric
    substance use                                -> psychiatric, hiv (with sex)
    age                                          -> bmi
    age, bmi                                     -> diabetes (not recorded) -> hba1c (with age)
    age, bmi                                     -> systolic -> diastolic (with age)
    age, sex, smoking, bmi, diabetes, systolic, substance use, hiv -> diagnosis
    diagnosis                                    -> admission, drug class, crp (with bmi)
    diagnosis, smoking                           -> oxygen saturation
    crp, drug class, diagnosis                   -> heart rate
    age, sex, diabetes, systolic, diagnosis      -> creatinine -> hemoglobin (with age, sex, diagnosis)
    age, drug class, smoking                     -> ldl
    age, diabetes, diagnosis, hardship, hiv      -> prior admissions -> medications (with age, diabetes)
    diagnosis, admission, age, crp               -> length of stay
    length of stay, age, diagnosis, hardship     -> discharge
    prior admissions, length of stay, creatinine, hemoglobin, hba1c, medications, age, diagnosis, discharge,
    substance use, psychiatric, insurance        -> readmitted

Marginals follow what is published of adult inpatients in the United States in the order of magnitude (HIV 3 %,
smokers 20 %, readmissions near a third as in a high-risk ward); they are good for privacy experiments, not medicine.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedinv.data.dataset import Columns, Dataset
from fedinv.data.sources._synthetic import chance, dictionary, effect, identities, measured, pick
from fedinv.data.table import Table
from fedinv.federation.streams import stream

SENSITIVE = frozenset({"hiv", "substance_use", "psychiatric", "diagnosis", "hba1c"})

UNITS = {
    "age": "years",
    "bmi": "kg/m²",
    "systolic": "mmHg",
    "diastolic": "mmHg",
    "heart_rate": "1/min",
    "oxygen_saturation": "%",
    "creatinine": "mg/dL",
    "hba1c": "%",
    "ldl": "mg/dL",
    "crp": "mg/L",
    "hemoglobin": "g/dL",
    "length_of_stay": "days",
    "prior_admissions": "in 12 months",
    "medications": "drugs",
}
FRACTIONAL = frozenset({"bmi", "creatinine", "hba1c", "crp", "hemoglobin"})

VALUES: dict[str, tuple[str, ...]] = {
    "sex": ("female", "male"),
    "smoking": ("never", "former", "current"),
    "insurance": ("private", "medicare", "medicaid", "none"),
    "blood_type": ("O+", "A+", "B+", "O-", "A-", "AB+", "B-", "AB-"),
    "admission": ("emergency", "urgent", "elective"),
    "diagnosis": ("heart failure", "pneumonia", "copd", "sepsis", "stroke", "diabetes", "cancer", "fracture"),
    "drug_class": (
        "antibiotic", "beta blocker", "bronchodilator", "anticoagulant", "insulin", "chemotherapy", "opioid"
    ),
    "discharge": ("home", "home care", "rehabilitation", "nursing facility"),
    "psychiatric": ("none", "depression", "anxiety", "psychosis"),
    "substance_use": ("none", "alcohol", "opioids", "stimulants"),
    "hiv": ("negative", "positive"),
}  # fmt: skip


class Hospital(Dataset):
    """Synthetic hospital stays with the label `readmitted` (within 30 days), for as many patients as asked."""

    outsiders_know = ("age", "sex")  # as voters' and residents' registers have; blood type and the rest they do not
    people = "patient records"
    parties = "hospitals"

    source: Literal["hospital"]
    records: int = Field(default=2000, ge=20, le=1_000_000)
    """Number of patients, one stay each."""

    def load(self, seed: int) -> Table:
        """Draw the patients: (records,) rows that depend on the seed and the count alone."""
        columns, readmitted = self.draw(stream(seed, "hospital"), self.records)
        schema = dictionary(
            columns, values=VALUES, units=UNITS, fractional=FRACTIONAL, sensitive=SENSITIVE, label="readmitted"
        )
        people = self.name(stream(seed, "hospital", "people"), columns)
        note = f"{self.records} synthetic patients: no real person is in them"
        return Table(schema=schema, columns=columns, labels=readmitted, identities=people, notes=(note,))

    @staticmethod
    def draw(rng: np.random.Generator, count: int) -> tuple[Columns, NDArray[np.int64]]:
        """Draw patients: columns and labels, each (count,)."""
        return _patients(rng, count)

    def name(self, rng: np.random.Generator, columns: Columns) -> Columns:
        """Make a name, birth date and postcode for each patient."""
        return identities(rng, columns["age"], columns["sex"] == "female")


def _patients(rng: np.random.Generator, n: int) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Draw `n` patients down the causal graph: their columns, each (n,), and whether they are readmitted."""
    hardship = rng.standard_normal(n)
    age = measured(np.where(rng.random(n) < 0.78, rng.normal(67, 13, n), rng.normal(38, 10, n)), 18, 97)
    old = (age - 60) / 17
    sex = pick(rng, VALUES["sex"], {"female": 0.08, "male": 0.0}, n)
    male = (sex == "male").astype(np.float64)
    blood_type = rng.choice(VALUES["blood_type"], n, p=[0.37, 0.36, 0.085, 0.066, 0.063, 0.034, 0.016, 0.006])

    retired = np.where(age >= 65, 3.2, -2.5)
    insurance = pick(
        rng,
        VALUES["insurance"],
        {"private": 0.6 - 0.5 * hardship, "medicare": retired, "medicaid": 0.9 * hardship, "none": -0.9 + hardship},
        n,
    )
    smoking = pick(
        rng,
        VALUES["smoking"],
        {"never": 0.7, "former": 0.1 + 0.5 * old + 0.3 * male, "current": -0.5 - 0.5 * old + 0.6 * hardship},
        n,
    )
    substance_use = pick(
        rng,
        VALUES["substance_use"],
        {
            "none": 2.6 + 0.4 * old,
            "alcohol": 0.3 + 0.5 * male + 0.3 * hardship,
            "opioids": -0.5 - 0.4 * old + 0.6 * hardship,
            "stimulants": -1.1 - 0.7 * old + 0.6 * hardship,
        },
        n,
    )
    used = (substance_use != "none").astype(np.float64)
    psychiatric = pick(
        rng,
        VALUES["psychiatric"],
        {
            "none": 1.9,
            "depression": 0.2 - 0.3 * male + 0.4 * hardship + 0.6 * used,
            "anxiety": -0.1 - 0.3 * male - 0.3 * old + 0.2 * hardship,
            "psychosis": -1.3 + 0.6 * hardship + 0.8 * used,
        },
        n,
    )
    injected = effect(substance_use, {"opioids": 1.3, "stimulants": 0.9})
    positive = chance(rng, -3.9 + 0.3 * male + 0.4 * hardship + injected)
    hiv = np.asarray(VALUES["hiv"])[positive]

    bmi = measured(np.exp(rng.normal(3.34 + 0.025 * hardship - 0.02 * old**2, 0.19, n)), 14, 62, 1)
    diabetic = chance(rng, -1.35 + 0.55 * old + 0.11 * (bmi - 28))
    hba1c = measured(rng.normal(5.45 + 0.12 * old, 0.33, n) + diabetic * rng.gamma(3.2, 0.62, n), 4.0, 15.0, 1)
    systolic = measured(rng.normal(129 + 5.5 * old + 0.55 * (bmi - 28), 16, n), 78, 220)
    diastolic = measured(rng.normal(75 + 0.36 * (systolic - 129) - 3.5 * old, 7.5, n), 40, 125)

    smokes = effect(smoking, {"former": 0.6, "current": 1.0})
    diagnosis = pick(
        rng,
        VALUES["diagnosis"],
        {
            "heart failure": 0.1 + 0.7 * old + 0.03 * (bmi - 28) + 0.4 * diabetic,
            "pneumonia": 0.35 + 0.2 * old + 0.2 * smokes,
            "copd": -0.9 + 0.3 * old + 1.7 * smokes,
            "sepsis": 0.0 + 0.2 * old + 0.5 * used + 0.8 * positive,
            "stroke": -0.3 + 0.5 * old + 0.012 * (systolic - 129),
            "diabetes": -4.5 + 5.4 * diabetic - 0.2 * old,
            "cancer": -0.2 + 0.3 * old + 0.3 * smokes,
            "fracture": 0.1 + 0.25 * old - 0.3 * male + 0.4 * used,
        },
        n,
    )
    acute = {"sepsis": 2.0, "stroke": 1.6, "pneumonia": 0.8, "heart failure": 0.6, "fracture": 0.7, "cancer": -1.4}
    urgency = effect(diagnosis, acute)
    admission = pick(
        rng, VALUES["admission"], {"emergency": 0.5 + urgency, "urgent": 0.2 + 0.4 * urgency, "elective": -0.2}, n
    )
    usual = {
        "heart failure": {"beta blocker": 2.4, "anticoagulant": 1.2},
        "pneumonia": {"antibiotic": 2.8, "bronchodilator": 0.9},
        "copd": {"bronchodilator": 2.7, "antibiotic": 1.2},
        "sepsis": {"antibiotic": 3.0},
        "stroke": {"anticoagulant": 2.6, "beta blocker": 1.0},
        "diabetes": {"insulin": 2.9},
        "cancer": {"chemotherapy": 2.9, "opioid": 1.4},
        "fracture": {"opioid": 2.3, "anticoagulant": 1.4},
    }
    drug_class = pick(
        rng,
        VALUES["drug_class"],
        {drug: effect(diagnosis, {d: drugs.get(drug, 0.0) for d, drugs in usual.items()}) for drug in
         VALUES["drug_class"]} | {"chemotherapy": effect(diagnosis, {"cancer": 4.4}) - 2.0},
        n,
    )  # fmt: skip
    inflamed = effect(diagnosis, {"sepsis": 2.3, "pneumonia": 1.7, "copd": 0.5, "cancer": 0.7, "fracture": 0.5})
    crp = measured(np.exp(rng.normal(1.7 + inflamed + 0.02 * (bmi - 28), 0.75, n)), 0.2, 420, 1)
    breathless = effect(diagnosis, {"copd": 4.5, "pneumonia": 3.2, "heart failure": 2.0, "sepsis": 2.2})
    oxygen_saturation = measured(99.4 - breathless - rng.gamma(1.5, 1.1, n) - 0.3 * smokes, 74, 100)
    slowed = effect(drug_class, {"beta blocker": 9.0})
    heart_rate = measured(
        rng.normal(77 + 4.5 * np.log1p(crp / 10) - slowed + effect(diagnosis, {"sepsis": 8.0}), 11, n), 42, 170
    )
    ill_kidney = 0.16 * diabetic + 0.003 * (systolic - 129) + effect(diagnosis, {"sepsis": 0.2, "heart failure": 0.2})
    creatinine = measured(np.exp(rng.normal(-0.17 + 0.18 * male + 0.1 * old + ill_kidney, 0.26, n)), 0.35, 9.5, 2)
    bled = effect(diagnosis, {"cancer": 1.5, "fracture": 1.0, "sepsis": 0.9})
    hemoglobin = measured(
        rng.normal(13.0 + 1.1 * male - 0.35 * old - 0.55 * (creatinine - 1) - bled, 1.25, n), 5.5, 18.5, 1
    )
    ldl = measured(rng.normal(116 - 7 * old + 5 * smokes - slowed, 29, n), 28, 260)

    chronic = effect(diagnosis, {"copd": 0.5, "heart failure": 0.5, "cancer": 0.45, "diabetes": 0.3})
    burden = np.exp(-0.35 + 0.15 * old + 0.3 * diabetic + chronic + 0.25 * hardship + 0.3 * positive)
    prior_admissions = measured(rng.poisson(burden * rng.gamma(1.4, 1 / 1.4, n)), 0, 15)
    medications = measured(rng.poisson(np.exp(1.55 + 0.2 * old + 0.3 * diabetic + 0.07 * prior_admissions)), 0, 28)
    severe = effect(diagnosis, {"sepsis": 0.55, "stroke": 0.45, "cancer": 0.3, "fracture": 0.2, "heart failure": 0.2})
    planned = effect(admission, {"elective": -0.3, "emergency": 0.1})
    length_of_stay = measured(
        np.ceil(np.exp(rng.normal(1.25 + 0.1 * old + severe + planned + 0.0015 * crp, 0.5, n))), 1, 60
    )
    weak = 0.7 * old + 0.09 * (length_of_stay - 6)
    brittle = effect(diagnosis, {"stroke": 1.4, "fracture": 1.5})
    discharge = pick(
        rng,
        VALUES["discharge"],
        {
            "home": 1.5 - 0.2 * hardship,
            "home care": 0.1 + 0.6 * weak,
            "rehabilitation": -1.0 + 0.4 * weak + brittle,
            "nursing facility": -0.9 + weak + 0.4 * brittle,
        },
        n,
    )

    returns = (
        -1.1
        + 0.95 * (prior_admissions - 1)
        + 0.13 * (length_of_stay - 6)
        + 0.9 * (creatinine - 1)
        - 0.3 * (hemoglobin - 12.5)
        + 0.2 * (hba1c - 6)
        + 0.07 * (medications - 6)
        + 0.2 * old
        + effect(diagnosis, {"heart failure": 1.0, "copd": 0.9, "cancer": 0.7, "sepsis": 0.5, "fracture": -0.8})
        + effect(discharge, {"home": -0.5, "nursing facility": 0.7})
        + effect(substance_use, {"alcohol": 0.8, "opioids": 1.2, "stimulants": 1.0})
        + effect(psychiatric, {"depression": 0.5, "psychosis": 1.1})
        + effect(insurance, {"none": 0.6, "medicaid": 0.4, "private": -0.4})
    )
    readmitted = chance(rng, 0.9 * returns)  # noisier than the sum: most causes of readmission are not recorded

    columns: dict[str, NDArray[Any]] = {
        "age": age,
        "sex": sex,
        "bmi": bmi,
        "blood_type": blood_type,
        "smoking": smoking,
        "insurance": insurance,
        "admission": admission,
        "diagnosis": diagnosis,
        "systolic": systolic,
        "diastolic": diastolic,
        "heart_rate": heart_rate,
        "oxygen_saturation": oxygen_saturation,
        "creatinine": creatinine,
        "hba1c": hba1c,
        "ldl": ldl,
        "crp": crp,
        "hemoglobin": hemoglobin,
        "length_of_stay": length_of_stay,
        "prior_admissions": prior_admissions,
        "medications": medications,
        "drug_class": drug_class,
        "discharge": discharge,
        "psychiatric": psychiatric,
        "substance_use": substance_use,
        "hiv": hiv,
    }
    return columns, readmitted
