"""A sum of many steps on many people still holds each of them.
About 15 minutes.
"""

import marimo

app = marimo.App(width="medium", app_title="2. Batches and local epochs hide nothing")


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
        # 2. Batches and local epochs hide nothing

        "One record, yes", says the hospital. "But we train on batches, several epochs, and send the difference of the
        weights at the end. Sixteen patients are mixed in it, dozens of steps deep."
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    prediction = mo.ui.radio(
        ["all 16", "about half of them", "one or two", "none"],
        label="**Before you run anything:** of 16 patients behind five epochs by batches of 8, how many are rebuilt in full?",
    )
    prediction
    return


@app.cell
def _(fedinv, tempfile):
    room = tempfile.TemporaryDirectory()  # the runs' folders; gone when the lesson ends

    def run(name, **changes):
        """Four hospitals of 16 patients each, one round; the server looks at one update."""
        small = {"federation.clients": 4, "federation.rounds": 1, "attacker.watch.clients": 1}
        scenario = fedinv.load("hospital", attacks=["exact:seconds=5"], **small, **changes)
        return fedinv.run(scenario, out=f"{room.name}/{name}", progress=False)

    return (run,)


@app.cell
def _(run):
    five_epochs = run("five", **{"training.epochs": 5, "training.batch_size": 8})
    five_epochs
    return (five_epochs,)


@app.cell
def _(run):
    one_epoch = run("one", **{"training.epochs": 1, "training.batch_size": 16})
    print(one_epoch.results.headline)
    return (one_epoch,)


@app.cell(hide_code=True)
def _(five_epochs, mo, one_epoch):
    rebuilt = {
        name: round(one.results.attacks[0].recovered.value * one.results.attacks[0].recovered.count)
        for name, one in {"one epoch by 16": one_epoch, "five epochs by 8": five_epochs}.items()
    }
    mo.md(
        f"""
        Rebuilt in full: {", ".join(f"{count} of 16 after {name}" for name, count in rebuilt.items())}. A guess without the
        update has {five_epochs.results.attacks[0].field_accuracy.prior:.0%} of the *fields* right and no whole record.

        Why? The update of the first layer is a sum of outer products, error times record. There are 512 units and 16
        records: for each record some units were silent for all the others, and that gives the record away (attack
        `exact`). Several steps change the errors, not the records.
        """
    )
    return (rebuilt,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Exercise 1

        What the attack lives on are units. Find a width of a single hidden layer, `hidden=[...]`, with which fewer than
        half of the 16 are rebuilt. Does that make the update private? (Look at the fields.)
        """
    )
    return


@app.cell(hide_code=True)
def _(run):
    def rebuilt_with(width):
        """Share of the 16 patients rebuilt in full, and the share of right fields."""
        found = run(f"width-{width}", **{"model": {"kind": "mlp", "hidden": [width]}}).results.attacks[0]
        return found.recovered.value, found.field_accuracy.value

    def solution_1():
        return 4

    def right_1(width):
        return isinstance(width, int) and rebuilt_with(width)[0] < 0.5

    return rebuilt_with, right_1, solution_1


@app.cell(hide_code=True)
def _(inspect, mo, rebuilt_with, solution_1):
    _whole, _fields = rebuilt_with(solution_1() + 1)
    mo.accordion(
        {
            "Solution 1": mo.md(
                f"```python\n{inspect.getsource(solution_1)}```\nWith one unit more, {_whole:.0%} are rebuilt in full and "
                f"{_fields:.0%} of the fields are right. A network so narrow hides people by being unable to hold them: "
                "it is no guarantee, another attack may do better, and the model learns less."
            )
        }
    )
    return


@app.cell(hide_code=True)
def _(rebuilt, right_1, solution_1):
    # what this lesson says holds: a cell that fails shows it
    assert list(rebuilt.values()) == [16, 16]
    solved = [right_1(solution_1())]
    return (solved,)


if __name__ == "__main__":
    app.run()
