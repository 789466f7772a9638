"""Record, map, read, and refuse at the site.
About 20 minutes.
"""

import marimo

app = marimo.App(width="medium", app_title="8. Your own Flower app")


@app.cell
def _():
    import inspect
    import tempfile

    import marimo as mo
    import numpy as np
    import torch

    import fedinv

    return fedinv, inspect, mo, np, tempfile, torch


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        # 8. Your own Flower app

        So far the federations were fedinv's. This lesson is about yours. Recording what crosses its wire is one line:

        ```python
        strategy.start(grid=fedinv.tap(grid, "runs/mine"), ...)   # in your ServerApp
        ```

        or no line at all: `fedinv record ./my-app --nodes 4 --out runs/mine`. Here we do without Flower's daemons: a few
        lines of torch stand for one round, and its files are imported.
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    prediction = mo.ui.radio(
        ["it needs to know my data", "it needs the network and the files", "it needs my Flower configuration"],
        label="**Before you run anything:** what does the server need to read your app's updates?",
    )
    prediction
    return


@app.cell
def _(torch):
    # an app: a network of your own, with names of your own, and one local step on 8 people
    class Risk(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Linear(20, 64)
            self.gate = torch.nn.ReLU()
            self.head = torch.nn.Linear(64, 2)

        def forward(self, people):
            return self.head(self.gate(self.body(people)))

    torch.manual_seed(0)
    network = Risk()
    people, ill = torch.randn(8, 20), torch.randint(0, 2, (8,))
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.nn.functional.cross_entropy(network(people), ill).backward()
    back = {name: sent[name] - 0.1 * weight.grad for name, weight in network.named_parameters()}
    return Risk, back, network, people, sent


@app.cell
def _(back, fedinv, np, sent, tempfile):
    room = tempfile.TemporaryDirectory()
    for _name, _arrays in {"sent": sent, "back": back}.items():
        np.savez(f"{room.name}/{_name}.npz", **{one: tensor.numpy() for one, tensor in _arrays.items()})
    recording = fedinv.import_files(
        f"{room.name}/sent.npz", [f"{room.name}/back.npz"], out=f"{room.name}/mine", records=8
    )
    [(update.round, update.node, update.claimed_records, list(update.received)) for update in recording.updates]
    return (room,)


@app.cell
def _(fedinv, network, room):
    # layer by layer, without the truth: which attack applies to what
    mapped = fedinv.leak_map(f"{room.name}/mine", network)
    {layer.name: sorted(layer.applies) for layer in mapped.layers}
    return (mapped,)


@app.cell
def _(fedinv, network, room):
    verdict = fedinv.attack_recording(f"{room.name}/mine", network, seconds=5)
    print(verdict.headline)
    return (verdict,)


@app.cell(hide_code=True)
def _(np, people, room, torch):
    held = np.load(f"{room.name}/mine/claims.npz")
    records = torch.from_numpy(held["update-0-records"]) if "update-0-records" in held.files else torch.zeros(0, 20)
    found = int((torch.cdist(people, records).min(1).values < 1e-3).sum()) if len(records) else 0
    return (found,)


@app.cell(hide_code=True)
def _(found, mo, people):
    mo.md(
        f"""
        **{found} of {len(people)}** people are in `claims.npz`, to three digits. Nothing of your data was given: a claim is
        kept where, trained on again, it explains the update.

        At the site, `fedinv.gate` refuses such an update before it leaves: `ClientApp(mods=[fedinv.gate("app.task:Net",
        limit=0.01)])`.
        """
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Exercise 1

        Your app sends updates in which nine of ten entries of each array are set to 0, the smallest ones. Import such an update
        (`thinned(back)`), and return how many people are read off it by `attack_recording`.
        """
    )
    return


@app.cell(hide_code=True)
def _(back, fedinv, network, np, room, sent, torch):
    def thinned(back):
        """The arrays after training with the smallest nine tenths of each change undone."""
        moved = {name: back[name] - sent[name] for name in sent}
        return {
            name: sent[name] + torch.where(change.abs() >= change.abs().flatten().quantile(0.9), change, 0.0)
            for name, change in moved.items()
        }

    def solution_1():
        place = f"{room.name}/thinned"
        np.savez(f"{place}.npz", **{name: tensor.detach().numpy() for name, tensor in thinned(back).items()})
        fedinv.import_files(f"{room.name}/sent.npz", [f"{place}.npz"], out=place, records=8)
        return sum(one.verified for one in fedinv.attack_recording(place, network, seconds=2).updates)

    def right_1(count):
        """None are verifiably read: which is not to say that nothing leaks."""
        return count == 0

    return right_1, solution_1


@app.cell(hide_code=True)
def _(inspect, mo, solution_1):
    mo.accordion(
        {
            "Solution 1": mo.md(
                f"```python\n{inspect.getsource(solution_1)}```\nNone that verify themselves. Lesson 6 says why that is no "
                "reason to sleep well."
            )
        }
    )
    return


@app.cell(hide_code=True)
def _(found, mapped, people, right_1, solution_1):
    # what this lesson says holds: a cell that fails shows it
    assert found == len(people)
    assert any(layer.applies for layer in mapped.layers)
    solved = [right_1(solution_1())]
    return (solved,)


if __name__ == "__main__":
    app.run()
