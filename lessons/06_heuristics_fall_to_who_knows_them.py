"""Static against adaptive.
About 15 minutes.
"""

import marimo

app = marimo.App(width="medium", app_title="6. Heuristics fall to who knows them")


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
        # 6. Heuristics fall to who knows them

        A paper proposes a defense and shows: the usual attack finds nothing any more. fedinv runs each attack twice:
        **static**, by somebody who does not know of the defense, and **adaptive**, by somebody who does.
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    prediction = mo.ui.radio(
        ["dropout holds", "adversarial training holds", "both hold", "neither holds"],
        label="**Before you run anything:** which of the two holds against an attacker who knows of it?",
    )
    prediction
    return


@app.cell
def _(fedinv, tempfile):
    room = tempfile.TemporaryDirectory()

    def run(defense):
        """Four hospitals, one step on 8 patients with one defense; the server looks at one update."""
        small = {"federation.clients": 4, "federation.rounds": 1, "attacker.watch.clients": 1}
        small["training.algorithm"] = "fedsgd"
        scenario = fedinv.load("hospital", defenses=[defense], attacks=["exact:seconds=5"], **small)
        return fedinv.run(scenario, out=f"{room.name}/{defense.partition(':')[0]}", progress=False)

    def rebuilt(done):
        """Share of the patients rebuilt in full by variant of the attack."""
        return {one.variant: one.recovered.value for one in done.results.attacks}

    return rebuilt, run


@app.cell
def _(rebuilt, run):
    dropout, adversarial = rebuilt(run("dropout")), rebuilt(run("adversarial-training"))
    {"dropout": dropout, "adversarial-training": adversarial}
    return adversarial, dropout


@app.cell(hide_code=True)
def _(adversarial, dropout, mo):
    mo.md(
        f"""
        | defense | static: does not know of it | adaptive: knows of it |
        |---|---|---|
        | dropout | {dropout["static"]:.0%} | **{dropout["adaptive"]:.0%}** |
        | adversarial training | {adversarial["static"]:.0%} | **{adversarial["adaptive"]:.0%}** |

        The left column is what papers show. The defenses change what the attack *expects*: dropout silences units at
        random, adversarial training moves the records. Who knows that expects something else.
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Exercise 1

        Write `holds(defense)`: True where neither variant rebuilds anybody. Name a defense of
        `fedinv.available("defenses")`, in the short form, for which it is True, and say why it is no heuristic.
        """
    )
    return


@app.cell(hide_code=True)
def _(rebuilt, run):
    def holds(defense):
        return max(rebuilt(run(defense)).values()) == 0

    def solution_1():
        return "dp-sgd:noise_multiplier=1.1"

    def right_1(defense):
        return isinstance(defense, str) and holds(defense)

    return right_1, solution_1


@app.cell(hide_code=True)
def _(inspect, mo, solution_1):
    mo.accordion(
        {
            "Solution 1": mo.md(
                f"```python\n{inspect.getsource(solution_1)}```\nDifferential privacy is the one whose promise is about "
                "*every* attacker, also those whom nobody has thought of. That no attack here succeeds is not why one "
                "believes it; the ledger is."
            )
        }
    )
    return


@app.cell(hide_code=True)
def _(adversarial, dropout, right_1, solution_1):
    # what this lesson says holds: a cell that fails shows it
    assert dropout["adaptive"] > dropout["static"] + 0.3
    assert adversarial["adaptive"] > adversarial["static"] + 0.3
    solved = [right_1(solution_1())]
    return (solved,)


if __name__ == "__main__":
    app.run()
