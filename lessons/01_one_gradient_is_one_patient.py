"""A row of the weights' update over the bias' update is the record.
About 15 minutes.
"""

import marimo

app = marimo.App(width="medium", app_title="1. One gradient is one patient")


@app.cell
def _():
    import inspect

    import marimo as mo
    import torch

    import fedinv

    return fedinv, inspect, mo, torch


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        # 1. One gradient is one patient

        A hospital takes part in a federation. "No record leaves the house", it says to its patients, "only the model's
        update does." Tonight there was one admission, and the update was computed from that one record.

        You are the server. You get the update, and nothing else.
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    prediction = mo.ui.radio(
        ["nothing, gradients are not records", "roughly how old she is", "every number of the record"],
        label="**Before you run anything:** what can the server read out of it?",
    )
    prediction
    return


@app.cell
def _(torch):
    # the hospital: a patient of six numbers (standardized), and one step of training
    patient = torch.tensor([[0.7, -1.2, 0.3, 2.1, -0.4, 0.9]])
    readmitted = torch.tensor([1])

    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
    sent = [weight.detach().clone() for weight in network.parameters()]
    torch.nn.functional.cross_entropy(network(patient), readmitted).backward()

    lr = 0.1
    update = [-lr * weight.grad for weight in network.parameters()]  # what crosses the wire: local minus global
    return lr, patient, sent, update


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        r"""
        ## By hand

        The first layer computes *z = Wx + b*. The chain rule gives, for each unit *i* with error *eᵢ*:

        > *∂L/∂Wᵢ = eᵢ x* and *∂L/∂bᵢ = eᵢ*

        A row of the weights' gradient over the entry of the bias' gradient is the record itself.
        """
    )
    return


@app.cell
def _(torch, update):
    rows, biases = update[0], update[1]
    unit = int(biases.abs().argmax())  # any unit that the patient fires
    read = rows[unit] / biases[unit]
    torch.set_printoptions(precision=4, sci_mode=False)
    read
    return (read,)


@app.cell(hide_code=True)
def _(mo, patient, read):
    furthest = float((read - patient[0]).abs().max())
    mo.md(
        f"The largest error over the six numbers is **{furthest:.1e}**. The server divided two numbers that it was sent."
    )
    return (furthest,)


@app.cell
def _(fedinv, lr, sent, update):
    # the same by fedinv, for any number of records: which attack it takes, and what it claims
    model = {"kind": "mlp", "hidden": [32]}
    claim = fedinv.invert(update, sent=sent, model=model, records=1, algorithm="fedsgd", lr=lr)
    claim.records, claim.labels, claim.notes[:1]
    return (claim,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Exercise 1

        Two patients in one step. The gradients of both are averaged before they are sent. Does `row / bias` of one unit
        still give a patient? Write `distance(update, patients)`: the smallest distance of any unit's quotient from any
        of the two patients, over the units whose bias moved.
        """
    )
    return


@app.cell(hide_code=True)
def _(torch):
    def two_patients():
        """Two patients, the update of one step on both, and the weights before."""
        patients = torch.randn(2, 6, generator=torch.Generator().manual_seed(3))
        torch.manual_seed(1)
        network = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
        sent = [weight.detach().clone() for weight in network.parameters()]
        torch.nn.functional.cross_entropy(network(patients), torch.tensor([0, 1])).backward()
        return patients, [-0.1 * weight.grad for weight in network.parameters()], sent

    def solution_1():
        patients, update, _ = two_patients()
        moved = update[1] != 0
        quotients = update[0][moved] / update[1][moved, None]
        return float(torch.cdist(quotients, patients).min())

    def right_1(value):
        """A unit that only one of the two fires gives her exactly: the smallest distance is 0 up to rounding."""
        return isinstance(value, float) and value < 1e-3

    return right_1, solution_1, two_patients


@app.cell(hide_code=True)
def _(inspect, mo, solution_1):
    _found = solution_1()
    mo.accordion(
        {
            "Solution 1": mo.md(
                f"```python\n{inspect.getsource(solution_1)}```\nThe distance is {_found:.1e}: some unit is fired by one "
                "of the two alone, and its quotient is that patient to every digit. ReLU does not mix everybody."
            )
        }
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Exercise 2

        Let `fedinv.invert` read both patients off that update. Return the largest error over both records, matched to
        the nearest patient.
        """
    )
    return


@app.cell(hide_code=True)
def _(fedinv, torch, two_patients):
    def solution_2():
        patients, update, sent = two_patients()
        model = {"kind": "mlp", "hidden": [32]}
        claim = fedinv.invert(update, sent=sent, model=model, records=2, algorithm="fedsgd", lr=0.1)
        nearest = torch.cdist(patients, claim.records).argmin(1)
        return float((claim.records[nearest] - patients).abs().max())

    def right_2(value):
        """Both patients are read to every digit."""
        return isinstance(value, float) and value < 1e-3

    return right_2, solution_2


@app.cell(hide_code=True)
def _(inspect, mo, solution_2):
    mo.accordion(
        {"Solution 2": mo.md(f"```python\n{inspect.getsource(solution_2)}```\nLargest error: {solution_2():.1e}.")}
    )
    return


@app.cell(hide_code=True)
def _(claim, furthest, patient, right_1, right_2, solution_1, solution_2, torch):
    # what this lesson says holds: a cell that fails shows it
    assert furthest < 1e-4
    assert torch.allclose(claim.records, patient, atol=1e-3) and claim.labels.tolist() == [1]
    solved = [right_1(solution_1()), right_2(solution_2())]
    return (solved,)


if __name__ == "__main__":
    app.run()
