"""The page of the lab: wires controls to the modules beside it. Run by `fedinv lab`, as an app whose code is hidden."""

import marimo

app = marimo.App(width="full", app_title="fedinv lab", css_file="page.css")


@app.cell
def _():
    import marimo as mo

    from fedinv.errors import RequestError
    from fedinv.lab import controls, settings, view
    from fedinv.lab.menu import defense, menu, named
    from fedinv.lab.work import followed

    workshop = mo.app_meta().request.meta["workshop"]
    return RequestError, controls, defense, followed, menu, mo, named, settings, view, workshop


@app.cell
def _(mo, view):
    mo.Html(view.title_html())
    return


@app.cell
def _(controls, mo):
    scenario = controls.scenario_choice()
    beside = mo.ui.switch(label="A second setting beside it")
    mo.hstack([scenario, beside], wrap=True, justify="start", gap=1.5)
    return beside, scenario


@app.cell
def _(controls, menu, named, scenario):
    base = named(menu().scenarios, scenario.value)
    first = controls.setting_controls(base, "")
    second = controls.setting_controls(base, "second")
    first_values, second_values = first.values, second.values
    return base, first, first_values, second, second_values


@app.cell
def _(base, mo, settings):
    upload = mo.ui.file(filetypes=[".csv"], max_size=settings.LARGEST_UPLOAD, label="Upload a csv file")
    typed = mo.ui.text(label="or its path on this machine", full_width=True)
    mo.vstack([upload, typed]) if base.own else None
    return typed, upload


@app.cell
def _(RequestError, base, controls, mo, settings, typed, upload, view, workshop):
    path, label, _shown = "", None, None
    if base.own and (upload.value or typed.value):
        path = str(workshop.keep(upload.contents(), upload.name())) if upload.value else typed.value
        try:
            label = controls.label_choice(settings.header(path).columns)
            _shown = label
        except RequestError as error:
            path, _shown = "", mo.Html(view.refused_html(str(error)))
    _shown
    return label, path


@app.cell
def _(beside, controls, first, mo, second):
    mo.vstack([controls.laid_out(first), controls.laid_out(second)] if beside.value else [controls.laid_out(first)])
    return


@app.cell
def _(RequestError, base, beside, first_values, label, mo, path, second_values, settings, view):
    mo.stop(base.own and not path, mo.Html(view.refused_html("Name a csv file: it is read here, and sent nowhere.")))
    _common = {"scenario": base.name, "path": path, "label": (label.value or "") if label is not None else ""}
    try:
        chosen = [
            settings.scenario_of(settings.checked({**_common, **one()}))
            for one in ([first_values, second_values] if beside.value else [first_values])
        ]
    except RequestError as error:
        mo.stop(True, mo.Html(view.refused_html(str(error))))
    return (chosen,)


@app.cell
def _(mo):
    looked, set_looked = mo.state(None)
    form, set_form = mo.state(None)
    return form, looked, set_form, set_looked


@app.cell
def _(followed, mo, view):
    # in a thread of its own, so that a change meanwhile is heard at once, and ends what it supersedes
    def follow(tasks, then):
        def work():
            found = followed(
                tasks,
                lambda stages: mo.output.replace(mo.Html(view.progress_html(stages))),
                lambda: mo.current_thread().should_exit,
            )
            if found is not None:
                then(found)

        mo.Thread(target=work).start()

    return (follow,)


@app.cell
def _(chosen, follow, mo, set_form, set_looked, view, workshop):
    def _then(found):
        mo.output.replace(mo.Html(view.looks_html(found)))
        set_looked(found)

    set_looked(None)
    set_form(None)
    follow([workshop.look(one) for one in chosen], _then)
    return


@app.cell
def _(chosen, looked, mo):
    looks = looked()
    mo.stop(not chosen or looks is None)
    watch = mo.ui.run_button(label="Watch a record form", disabled=isinstance(looks[0], str))
    watch
    return looks, watch


@app.cell
def _(follow, looks, mo, set_form, watch, workshop):
    mo.stop(not watch.value or isinstance(looks[0], str))

    def _then(found):
        mo.output.clear()
        set_form(found[0])

    follow([workshop.forming(looks[0].folder)], _then)
    return


@app.cell
def _(form, mo):
    formed = form()
    mo.stop(formed is None)
    return (formed,)


@app.cell
def _(formed, mo, view):
    _last = 0 if isinstance(formed, str) else len(formed.frames) - 1
    mo.stop(isinstance(formed, str), mo.Html(view.refused_html(str(formed))))
    mo.stop(_last < 0, mo.Html(view.refused_html(formed.says)))
    step = mo.ui.slider(0, max(1, _last), value=_last, label="Step of the search", show_value=True, full_width=True)
    step
    return (step,)


@app.cell
def _(formed, mo, step, view):
    mo.Html(view.frame_html(formed, step.value))
    return


@app.cell
def _(chosen, looked, mo, settings, view):
    mo.stop(looked() is None)
    mo.vstack(
        [mo.Html(view.toml_html(settings.toml(one))) for one in chosen]
        + [mo.download(settings.toml(chosen[0]).encode(), filename=f"{chosen[0].name}.toml", label="Download the TOML")]
    )
    return


if __name__ == "__main__":
    app.run()
