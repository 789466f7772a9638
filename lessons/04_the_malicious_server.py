"""Crafted weights read a whole sum; clients can look before they train.
About 15 minutes.
"""

import marimo

app = marimo.App(width="medium", app_title="4. The malicious server, and how to see it")


@app.cell
def _():
    import inspect
    import tempfile

    import marimo as mo

    import fedinv

    return fedinv, inspect, mo, tempfile


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        # 4. The malicious server, and how to see it

        In lesson 3 a crowd was safe from a server that only looks. This one sends weights of its own making, the same to
        everybody, once. They train as if nothing were.
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    prediction = mo.ui.radio(
        ["the crowd still hides them", "a few patients are lost", "all of them are read"],
        label="**Before you run anything:** four hospitals of 64 patients, behind masks, one round of crafted weights?",
    )
    prediction
    return


@app.cell
def _(fedinv, tempfile):
    room = tempfile.TemporaryDirectory()
    small = {"federation.clients": 4, "attacker.watch.clients": 1}

    def run(name, scenario):
        return fedinv.run(scenario, out=f"{room.name}/{name}", progress=False)

    return run, small


@app.cell
def _(fedinv, run, small):
    grid = run("grid", fedinv.load("hospital-grid", defenses=["masking"], **small, **{"federation.rounds": 1}))
    by_grid = grid.results.attacks[-1]
    grid
    return (by_grid,)


@app.cell(hide_code=True)
def _(by_grid, mo):
    mo.md(
        f"""
        Off the sum of four hospitals: **{by_grid.recovered.value:.1%} of {by_grid.recovered.count} patients**, with
        {by_grid.claimed - round(by_grid.exact.value * by_grid.exact.count)} claims that are not one of them to every digit.

        The first layer was made a grid of cells such that hardly two patients fire the same one. Each cell then holds
        one patient, as in lesson 1. No crowd helps: the cells are in the sum.
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## How to see it

        A client holds the weights in its hands before it trains. Honest weights look in many directions; the grid's rows
        are nearly parallel. In `hospital-vetted` every client looks first (`[[vetting]]`), and refuses what it flags.
        """
    )
    return


@app.cell
def _(fedinv, run, small):
    vetted = run("vetted", fedinv.load("hospital-vetted", **small, **{"federation.rounds": 2}))
    flagged = [one for one in vetted.results.federation.vetting if one.flagged]
    [(one.detector, one.round, f"{one.flagged} of {one.looked} clients", one.action) for one in flagged]
    return flagged, vetted


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Exercise 1

        `fedinv.available("detectors")` lists what clients can look at. Name one that flags the grid when it is alone,
        with `vetting=[{"kind": ..., "action": "report"}]`.
        """
    )
    return


@app.cell(hide_code=True)
def _(fedinv, run, small):
    def flags(kind):
        """Whether a detector by itself flags the crafted round, and no honest one."""
        scenario = fedinv.load(
            "hospital-vetted", **small, **{"federation.rounds": 2, "vetting": [{"kind": kind, "action": "report"}]}
        )
        found = run(f"only-{kind}", scenario).results.federation.vetting
        return {one.round for one in found if one.flagged} == {2}

    def solution_1():
        return "row-cosines"

    def right_1(kind):
        return kind in fedinv.available("detectors") and flags(kind)

    return right_1, solution_1


@app.cell(hide_code=True)
def _(inspect, mo, solution_1):
    mo.accordion(
        {
            "Solution 1": mo.md(
                f"```python\n{inspect.getsource(solution_1)}```\nA server that knows the detector can make rows that pass "
                "it: `fedinv duel` pits the two against each other, with false-alarm rates."
            )
        }
    )
    return


@app.cell(hide_code=True)
def _(by_grid, flagged, right_1, solution_1, vetted):
    # what this lesson says holds: a cell that fails shows it
    assert by_grid.target == "sum" and by_grid.recovered.value > 0.95
    assert flagged and {one.round for one in flagged} == {2}
    assert all(one.recovered.value in (0, None) for one in vetted.results.attacks)
    solved = [right_1(solution_1())]
    return (solved,)


if __name__ == "__main__":
    app.run()
