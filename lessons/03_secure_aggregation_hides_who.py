"""The sum is the update of one large batch.
About 15 minutes.
"""

import marimo

app = marimo.App(width="medium", app_title="3. Secure aggregation hides who, not what")


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
        # 3. Secure aggregation hides who, not what

        The hospitals mask their updates with noise that cancels in the sum. The server sees gibberish from each of them,
        and the sum of all. "Now it cannot look at anybody."
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    prediction = mo.ui.radio(
        ["nothing", "averages over all patients", "whole patients, without knowing which hospital they were in"],
        label="**Before you run anything:** what can be read off the sum of four hospitals of eight patients each?",
    )
    prediction
    return


@app.cell
def _(fedinv, tempfile):
    room = tempfile.TemporaryDirectory()

    def run(name, clients, hidden=(512, 512)):
        """Hospitals of 8 patients each behind masks, one round."""
        small = {"federation.clients": clients, "federation.rounds": 1, "attacker.watch.clients": 1}
        scenario = fedinv.load(
            "hospital",
            defenses=["masking"],
            attacks=["row-space:seconds=10"],
            **small,
            **{"training.records_per_client": 8, "model.hidden": list(hidden)},
        )
        return fedinv.run(scenario, out=f"{room.name}/{name}", progress=False)

    return (run,)


@app.cell
def _(run):
    four = run("four", 4)
    one_by_one, summed = four.results.attacks  # static: a masked update; adaptive: the sum, as one large batch
    four
    return one_by_one, summed


@app.cell(hide_code=True)
def _(mo, one_by_one, summed):
    mo.md(
        f"""
        Off a single masked update: {one_by_one.recovered.value:.0%} of {one_by_one.recovered.count} patients. Off the
        sum: **{summed.recovered.value:.0%} of {summed.recovered.count}**, every field.

        The masks are gone in the sum, and the sum is the update of one large batch. Lesson 2 was about those. What the
        server lost is *which* hospital a patient was in.
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Exercise 1

        A crowd hides what a server that only looks cannot separate. With two layers of 64 units, how many hospitals of 8
        patients does it take until nobody is rebuilt off the sum? Give a number of hospitals, up to 20.
        """
    )
    return


@app.cell(hide_code=True)
def _(run):
    def off_the_sum(clients):
        """Share of all patients rebuilt off the sum."""
        return run(f"crowd-{clients}", clients, (64, 64)).results.attacks[1].recovered.value

    def solution_1():
        return 20

    def right_1(clients):
        return isinstance(clients, int) and 2 <= clients <= 20 and off_the_sum(clients) == 0

    return right_1, solution_1


@app.cell(hide_code=True)
def _(inspect, mo, solution_1):
    mo.accordion(
        {
            "Solution 1": mo.md(
                f"```python\n{inspect.getsource(solution_1)}```\n{8 * solution_1()} records in a sum are more than the "
                "64 units of a layer: their span is everything, and tells nothing by itself. Fewer hospitals may do as "
                "well. The next lesson is about a server that does not only look."
            )
        }
    )
    return


@app.cell(hide_code=True)
def _(one_by_one, right_1, solution_1, summed):
    # what this lesson says holds: a cell that fails shows it
    assert one_by_one.recovered.value == 0 and summed.target == "sum"
    assert summed.recovered.value > 0.9 and summed.recovered.prior < 0.05
    solved = [right_1(solution_1())]
    return (solved,)


if __name__ == "__main__":
    app.run()
