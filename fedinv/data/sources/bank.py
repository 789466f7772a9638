"""Synthetic loan applicants, 24 columns; will the loan default?

The causal model, each arrow a dependence of the draw (numbers from a seeded generator, no real person in them)::

    age, sex                                 drawn from the adults who apply for credit
    age                                   -> education, marital, years at the bank
    marital, age                          -> dependents
    age, education, thrift (not recorded) -> employment -> employment years (with age)
    age, education, employment            -> income
    income, age, marital                  -> housing
    income, dependents, thrift            -> spending
    income, spending, thrift              -> balance
    income, age, thrift                   -> savings
    age, spending                         -> transactions
    age, thrift                           -> cash withdrawals, credit history
    age, employment, housing, thrift      -> purpose -> loan amount (with income) -> term
    marital, thrift                       -> open loans
    spending, income, open loans, thrift  -> card use
    credit history, card use, thrift      -> late payments
    loan amount, income, marital          -> security
    credit history, card use, security    -> interest rate
    late payments, card use, loan amount over income, term, interest rate, open loans, cash withdrawals, savings,
    balance, employment years, credit history, employment, housing, purpose, security, marital -> default

Amounts are in dollars, a month's unless they say otherwise.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedinv.data.dataset import Columns, Dataset
from fedinv.data.sources._synthetic import chance, dictionary, effect, identities, measured, pick
from fedinv.data.table import Table
from fedinv.federation.streams import stream

SENSITIVE = frozenset({"income", "balance", "savings", "late_payments", "credit_history"})

UNITS = {
    "age": "years",
    "dependents": "people",
    "employment_years": "years",
    "income": "$",
    "spending": "$",
    "balance": "$",
    "savings": "$",
    "transactions": "in a month",
    "cash_withdrawals": "in a month",
    "years_at_bank": "years",
    "loan_amount": "$",
    "term": "months",
    "open_loans": "loans",
    "card_use": "% of limit",
    "late_payments": "in 24 months",
    "interest_rate": "% a year",
}
FRACTIONAL = frozenset({"interest_rate", "employment_years"})

VALUES: dict[str, tuple[str, ...]] = {
    "sex": ("female", "male"),
    "marital": ("single", "married", "divorced", "widowed"),
    "education": ("school", "vocational", "bachelor", "master"),
    "employment": ("employed", "self-employed", "public service", "retired", "unemployed", "student"),
    "housing": ("owner", "mortgage", "tenant", "with family"),
    "purpose": ("car", "renovation", "consolidation", "business", "education", "medical", "consumer goods"),
    "credit_history": ("none", "clean", "delayed", "defaulted"),
    "security": ("none", "co-applicant", "guarantor"),
}


class Bank(Dataset):
    """Synthetic loan applicants with the label `default`, as many as asked."""

    outsiders_know = ("age", "sex")  # as voters' and residents' registers have; blood type and the rest they do not
    people = "loan records"

    source: Literal["bank"]
    records: int = Field(default=2000, ge=20, le=1_000_000)
    """Number of applicants, one loan each."""

    def load(self, seed: int) -> Table:
        """Draw the applicants: (records,) rows that depend on the seed and the count alone."""
        columns, default = self.draw(stream(seed, "bank"), self.records)
        schema = dictionary(
            columns, values=VALUES, units=UNITS, fractional=FRACTIONAL, sensitive=SENSITIVE, label="default"
        )
        people = self.name(stream(seed, "bank", "people"), columns)
        note = f"{self.records} synthetic loan applicants: no real person is in them"
        return Table(schema=schema, columns=columns, labels=default, identities=people, notes=(note,))

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Columns, NDArray[np.int64]]:
        """Draw applicants: columns and labels, each (count,)."""
        return _applicants(rng, count)

    def name(self, rng: np.random.Generator, columns: Columns) -> Columns:
        """Make a name, birth date, postcode and account number for each applicant."""
        accounts = 10**9 + rng.choice(9 * 10**9, len(columns["age"]), replace=False)
        return identities(rng, columns["age"], columns["sex"] == "female") | {"account": accounts.astype(str)}


def _applicants(rng: np.random.Generator, n: int) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Draw `n` applicants down the causal graph: their columns, each (n,), and whether their loan defaults."""
    thrift = rng.standard_normal(n)
    age = measured(19 + 62 * rng.beta(1.8, 2.9, n), 19, 80)
    old = (age - 43) / 13
    sex = pick(rng, VALUES["sex"], {"female": 0.0, "male": 0.15}, n)
    retired = np.where(age >= 64, 6.0, -6.0)
    young = np.where(age <= 28, 1.0, 0.0)
    education = pick(
        rng, VALUES["education"], {"school": 0.3, "vocational": 0.6, "bachelor": 0.4, "master": -0.4 - young}, n
    )
    marital = pick(
        rng,
        VALUES["marital"],
        {"single": 0.5 - 1.1 * old, "married": 0.9, "divorced": -0.6 + 0.3 * old, "widowed": -3.2 + 1.4 * old},
        n,
    )
    family = effect(marital, {"married": 0.9, "divorced": 0.4})
    dependents = measured(rng.poisson(np.exp(-1.0 + family - 0.15 * (old - 0.2) ** 2)), 0, 6)
    studied = effect(education, {"vocational": 0.15, "bachelor": 0.38, "master": 0.58})
    employment = pick(
        rng,
        VALUES["employment"],
        {
            "employed": 2.4,
            "self-employed": 0.5 + 0.2 * old,
            "public service": 0.4 + studied,
            "retired": retired,
            "unemployed": 0.2 - 1.2 * studied - 0.2 * thrift,
            "student": -4.0 + 4.6 * young,
        },
        n,
    )
    works = effect(employment, {"employed": 1.0, "self-employed": 1.0, "public service": 1.3})
    employment_years = measured(works * rng.gamma(1.6, 3.2, n) * np.exp(0.25 * old), 0, np.minimum(age - 16, 48), 1)
    paid = effect(employment, {"self-employed": 0.1, "retired": -0.3, "unemployed": -0.95, "student": -1.15})
    income = measured(np.exp(rng.normal(8.2 + studied + paid + 0.08 * old, 0.33, n)), 420, 32000)
    earns = np.log(income) - 8.4
    housing = pick(
        rng,
        VALUES["housing"],
        {
            "owner": -0.9 + 0.7 * old + 0.4 * earns,
            "mortgage": 0.2 + 1.0 * earns + 0.5 * family,
            "tenant": 0.8 - 0.3 * earns,
            "with family": -0.9 - 0.8 * old - 0.5 * earns,
        },
        n,
    )
    share = 0.74 - 0.07 * thrift - 0.05 * earns + 0.03 * dependents + rng.normal(0, 0.1, n)
    spending = measured(income * np.clip(share, 0.25, 1.3), 200, 30000)
    balance = measured(0.9 * (income - spending) + rng.normal(300, 900, n) + 350 * thrift, -6000, 30000)
    savings = measured(np.exp(rng.normal(8.2 + 0.55 * thrift + 0.4 * old + 0.6 * earns, 0.85, n)) - 600, 0, 400000, -1)
    transactions = measured(rng.poisson(np.exp(3.45 - 0.22 * old + 0.25 * np.log(spending / 3000))), 0, 160)
    cash_withdrawals = measured(rng.poisson(np.exp(1.1 + 0.22 * old - 0.15 * thrift)), 0, 30)
    years_at_bank = measured(rng.gamma(1.5, 4.5, n) * np.exp(0.35 * old), 0, age - 18)
    purpose = pick(
        rng,
        VALUES["purpose"],
        {
            "car": 0.8,
            "renovation": 0.1 + effect(housing, {"owner": 1.0, "mortgage": 0.7, "with family": -1.0}),
            "consolidation": 0.4 - 0.3 * thrift,
            "business": -0.8 + effect(employment, {"self-employed": 1.9}),
            "education": -1.2 + 1.8 * young,
            "medical": -0.7 + 0.4 * old,
            "consumer goods": 0.5 - 0.2 * thrift,
        },
        n,
    )
    asked = effect(purpose, {"business": 0.6, "renovation": 0.4, "car": 0.3, "medical": -0.3, "consumer goods": -0.7})
    loan_amount = measured(np.exp(rng.normal(9.25 + asked + 0.6 * earns, 0.5, n)), 500, 120000, -2)
    term = measured(6 * np.round(rng.normal(7.0 + 2.2 * (np.log(loan_amount) - 9.3), 2.0, n)), 6, 120)
    credit_history = pick(
        rng,
        VALUES["credit_history"],
        {"none": -0.6 - 0.6 * old, "clean": 1.4 + 0.5 * thrift, "delayed": 0.2, "defaulted": -0.9 - 0.5 * thrift},
        n,
    )
    open_loans = measured(rng.poisson(np.exp(0.1 - 0.2 * thrift + 0.1 * family)), 0, 9)
    strained = 0.9 * (spending / income - 0.75) - 0.5 * thrift + 0.12 * (open_loans - 1)
    card_use = measured(100 / (1 + np.exp(0.55 - strained - rng.normal(0, 0.9, n))), 0, 100)
    trouble = effect(credit_history, {"clean": -0.5, "delayed": 0.7, "defaulted": 1.0})
    late_payments = measured(rng.poisson(np.exp(-0.35 + trouble - 0.25 * thrift + 0.008 * (card_use - 40))), 0, 20)
    large = np.log(loan_amount / income) - 0.9
    security = pick(
        rng, VALUES["security"], {"none": 1.6, "co-applicant": 0.4 * large + family, "guarantor": -0.6 + large}, n
    )
    priced = effect(credit_history, {"none": 0.8, "delayed": 1.0, "defaulted": 2.4}) + 0.012 * (card_use - 40)
    secured = effect(security, {"co-applicant": 0.4, "guarantor": 0.8})
    interest_rate = measured(rng.normal(7.0 + priced - secured, 1.1, n), 2.4, 18.9, 2)

    defaults = (
        -1.95
        + 0.5 * (late_payments - 1)
        + 0.024 * (card_use - 40)
        + 0.75 * large
        + 0.012 * (term - 42)
        + 0.18 * (interest_rate - 8)
        + 0.22 * (open_loans - 1)
        + 0.05 * (cash_withdrawals - 3)
        - 0.25 * (np.log1p(savings / 1000) - 1.6)
        - 0.00016 * (balance - 1200)
        - 0.03 * (employment_years - 5)
        + effect(credit_history, {"clean": -0.6, "delayed": 0.4, "defaulted": 1.2})
        + effect(employment, {"unemployed": 1.1, "student": 0.4, "public service": -0.6})
        + effect(housing, {"owner": -0.7, "mortgage": -0.2, "tenant": 0.3})
        + effect(purpose, {"business": 0.6, "consolidation": 0.5, "medical": 0.3})
        + effect(security, {"none": 0.4, "guarantor": -0.4})
        + effect(marital, {"divorced": 0.3})
    )
    columns: dict[str, NDArray[Any]] = {
        "age": age,
        "sex": sex,
        "marital": marital,
        "dependents": dependents,
        "education": education,
        "employment": employment,
        "employment_years": employment_years,
        "income": income,
        "housing": housing,
        "spending": spending,
        "balance": balance,
        "savings": savings,
        "transactions": transactions,
        "cash_withdrawals": cash_withdrawals,
        "years_at_bank": years_at_bank,
        "purpose": purpose,
        "loan_amount": loan_amount,
        "term": term,
        "credit_history": credit_history,
        "open_loans": open_loans,
        "card_use": card_use,
        "late_payments": late_payments,
        "security": security,
        "interest_rate": interest_rate,
    }
    return columns, chance(rng, defaults)
