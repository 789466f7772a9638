"""Faces from a model, and who was in its training.
About 20 minutes.
"""

import marimo

app = marimo.App(width="medium", app_title="7. What the trained model itself tells")


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
        # 7. What the trained model itself tells

        Suppose nobody ever sees an update. At the end everybody gets the model: that was the point of it. Two questions
        to a finished model: *whose face do you know?* and *was this person in your training?*
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    prediction = mo.ui.radio(
        [
            "a model holds statistics, no faces",
            "a blurred average of all faces",
            "a picture of each class, by which she is recognized",
        ],
        label="**Before you run anything:** what can be drawn from a trained face recognizer alone?",
    )
    prediction
    return


@app.cell
def _(fedinv, tempfile):
    room = tempfile.TemporaryDirectory()

    def run(name, scenario):
        return fedinv.run(scenario, out=f"{room.name}/{name}", progress=False)

    return (run,)


@app.cell
def _(fedinv, run):
    small_faces = {"data.persons": 8, "data.size": 16, "federation.rounds": 4, "model.hidden": [64]}
    faces = run("faces", fedinv.load("faces-inversion", attacks=["model-inversion"], **small_faces))
    drawn = faces.results.inferences[0]
    recognized = drawn.measures[0]
    print(drawn.says)
    return drawn, recognized


@app.cell(hide_code=True)
def _(drawn, mo):
    import base64
    import io

    import numpy as np
    from matplotlib.image import imsave

    def shown(values, shape):
        """One image as a data address."""
        pixels = np.asarray(values).reshape(shape).clip(0, 1).transpose(1, 2, 0).repeat(6, 0).repeat(6, 1)
        out = io.BytesIO()
        imsave(out, pixels, format="png")
        return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()

    pairs = [pair for exhibit in drawn.exhibits for pair in exhibit.images][:4]
    mo.hstack(
        [
            mo.vstack(
                [
                    mo.image(shown(pair.true, pair.shape), alt="the person"),
                    mo.image(shown(pair.claimed, pair.shape), alt="drawn from the model"),
                ]
            )
            for pair in pairs
        ],
        justify="start",
        wrap=True,
    )
    return (pairs,)


@app.cell(hide_code=True)
def _(mo, recognized):
    mo.md(
        f"""
        Above each person, below what was drawn from the model (all are synthetic). A network of the judge's own names
        the right person for **{recognized.value:.0%}** of {recognized.count} pictures; chance is {recognized.prior:.0%}.
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Was she in the training?

        A model that was trained too long on too few remembers them: its loss is lower on members.
        """
    )
    return


@app.cell
def _(fedinv, run):
    def membership(rounds, epochs):
        """AUC of telling members of the training from others by the loss, and the AUC of the model itself."""
        few = {
            "federation.rounds": rounds,
            "training.epochs": epochs,
            "attacker.watch.rounds": [1],
            "data.records": 1500,
        }
        few |= {
            "training.records_per_client": 50,
            "attacker.auxiliary": 0,
            "attacks": [{"kind": "membership", "method": "loss"}],
        }
        found = run(f"membership-{rounds}-{epochs}", fedinv.load("hospital-membership", **few)).results
        auc = next(one for one in found.inferences[0].measures if "AUC" in one.name)
        return auc.value, found.utility.value

    overfitted, _useful = membership(rounds=10, epochs=10)
    brief, _also = membership(rounds=2, epochs=1)
    {"ten rounds of ten epochs": overfitted, "two rounds of one": brief}
    return brief, membership, overfitted


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Exercise 1

        Early stopping is cheap. Give `(rounds, epochs)` for which members are told with an AUC below 0.55 (0.5 is chance)
        and the model itself still has an AUC of at least 0.7.
        """
    )
    return


@app.cell(hide_code=True)
def _(membership):
    def solution_1():
        return 4, 1

    def right_1(answer):
        if not isinstance(answer, tuple):
            return False
        told, useful = membership(*answer)
        return told < 0.55 and useful >= 0.7

    return right_1, solution_1


@app.cell(hide_code=True)
def _(inspect, mo, solution_1):
    mo.accordion(
        {
            "Solution 1": mo.md(
                f"```python\n{inspect.getsource(solution_1)}```\nIt lowers what *this* attack sees. Others look at each "
                'update instead, or compare with models of their own (`method = "lira"`).'
            )
        }
    )
    return


@app.cell(hide_code=True)
def _(brief, overfitted, pairs, recognized, right_1, solution_1):
    # what this lesson says holds: a cell that fails shows it
    assert pairs and recognized.value > recognized.prior + 0.3
    assert overfitted > brief + 0.04 and brief < 0.55
    solved = [right_1(solution_1())]
    return (solved,)


if __name__ == "__main__":
    app.run()
