"""What epsilon promises, costs, and adds up to.
About 20 minutes.
"""

import marimo

app = marimo.App(width="medium", app_title="5. What differential privacy buys, and the ledger over rounds")


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
        # 5. What differential privacy buys, and the ledger over rounds

        DP-SGD cuts each record's gradient to a length of 1 and adds noise. Whatever the server does, what it sees would
        have looked nearly as likely without you: by a factor of *e* to the epsilon at most, but for a probability delta.

        Each round shows a little more. A ledger adds it up.
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    prediction = mo.ui.radio(
        ["the same epsilon", "less than four times", "four times", "more than four times"],
        label="**Before you run anything:** a round costs epsilon. What do four rounds cost?",
    )
    prediction
    return


@app.cell
def _(fedinv, tempfile):
    room = tempfile.TemporaryDirectory()

    def run(name, rounds=1, noise=1.0):
        """Four hospitals of 16 patients, one epoch a round, DP-SGD."""
        small = {"federation.clients": 4, "federation.rounds": rounds, "attacker.watch.clients": 1}
        scenario = fedinv.load(
            "hospital",
            defenses=[f"dp-sgd:noise_multiplier={noise}"],
            attacks=["exact:seconds=3:fall_back=false"],
            **small,
            **{"training.epochs": 1, "model.hidden": [512]},
        )
        return fedinv.run(scenario, out=f"{room.name}/{name}", progress=False)

    return (run,)


@app.cell
def _(run):
    one_round, four_rounds = run("one"), run("four", rounds=4)
    four_rounds
    return four_rounds, one_round


@app.cell(hide_code=True)
def _(four_rounds, mo, one_round):
    once, four_times = one_round.results.privacy, four_rounds.results.privacy
    worst = four_rounds.results.attacks[-1]
    mo.md(
        f"""
        One round: epsilon **{once.epsilon:.2f}**. Four rounds: **{four_times.epsilon:.2f}**, that is
        {four_times.epsilon / once.epsilon:.1f} times as much (delta {once.delta:g}; accountant: {once.accountant}).

        The attack that rebuilt everybody in lesson 2 rebuilds {worst.recovered.value:.0%} of
        {worst.recovered.count} patients; without the noise it has {worst.undefended.recovered.value:.0%}. That is what
        it buys. What it costs here: AUC {four_rounds.results.utility.value:.2f} with it,
        {four_rounds.results.utility.undefended.value:.2f} without.
        """
    )
    return four_times, once, worst


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Exercise 1

        Somebody sells "epsilon 1 a round, for a hundred rounds" as "epsilon 1". Find a `noise_multiplier` for which a
        single round has epsilon 3 or less, and not less than 1.
        """
    )
    return


@app.cell(hide_code=True)
def _(run):
    def epsilon_of(noise):
        return run(f"noise-{noise}", noise=noise).results.privacy.epsilon

    def solution_1():
        return 1.5

    def right_1(noise):
        return isinstance(noise, int | float) and noise > 0 and 1 <= epsilon_of(noise) <= 3

    return right_1, solution_1


@app.cell(hide_code=True)
def _(inspect, mo, solution_1):
    mo.accordion(
        {
            "Solution 1": mo.md(
                f"```python\n{inspect.getsource(solution_1)}```\nAn epsilon without its number of rounds is no claim. "
                "fedinv charges every client's ledger over all rounds, and `fedinv audit` holds the claim against planted "
                "canaries."
            )
        }
    )
    return


@app.cell(hide_code=True)
def _(four_times, once, right_1, solution_1, worst):
    # what this lesson says holds: a cell that fails shows it
    assert once.epsilon < four_times.epsilon < 4 * once.epsilon
    assert worst.recovered.value == 0 and worst.undefended.recovered.value > 0.5
    solved = [right_1(solution_1())]
    return (solved,)


if __name__ == "__main__":
    app.run()
