"""Widgets that choose what is shown: a sample of a table, the order of its rows. They go on after the page was loaded
again, and leave plain HTML where no kernel runs.
"""

import base64
import html

import ipywidgets
import numpy as np
from IPython.display import HTML, display


def alive(widget, stored):
    """Display `widget`; where none can live (a stored notebook, its export), `stored`, a piece of HTML, shows."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    bundle = {"application/vnd.jupyter.widget-view+json": view, "text/html": stored, "text/plain": "a widget"}
    display(bundle, raw=True)


def put(output, shown):
    """Show `shown`, HTML or a picture of `spectrograms`, in the widget `output` (an `ipywidgets.Output`) alone.

    Its content is set, not printed into it: nothing waits for a message to come back, and the page may be loaded anew.
    """
    data = (
        {"text/html": shown.data} if isinstance(shown, HTML) else {"image/png": base64.b64encode(shown.data).decode()}
    )
    output.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)


def pick_sample(table, show, column="si_sdri", unit="dB", start="worst", seed=0):
    """Buttons best, worst, random and a field for the index; `show(index)` returns what is displayed for that sample.

    `table` is a DataFrame with the columns `index` and `column` (higher is better). A stored notebook keeps the start
    sample as plain HTML. Returns nothing. Raises `ValueError` for an empty table or an unknown `start`.
    """
    choices = _choices(table, column, np.random.default_rng(seed))
    if start not in choices:
        raise ValueError(f"start: expected one of {', '.join(choices)}; got {start!r}.")
    scores, first = table.set_index("index")[column], int(choices[start]())
    field = ipywidgets.IntText(first, description="index")
    buttons = [ipywidgets.Button(description=name) for name in choices]
    output = ipywidgets.Output()

    def view(index, why):
        if index not in scores.index:
            known = f"{scores.index.min()} to {scores.index.max()}"
            return HTML(f"<p>There is no sample with the index {index} in this table; its indices go from {known}.</p>")
        caption = f"<p>Sample {index} ({html.escape(why)}): {column} {scores[index]:.2f} {unit}.</p>"
        return HTML(caption + _as_html(show(index)))

    def on_click(button):
        index = int(choices[button.description]())
        field.unobserve(on_type, names="value")  # the field follows the buttons without a second update
        field.value = index
        field.observe(on_type, names="value")
        put(output, view(index, button.description))

    def on_type(change):
        put(output, view(change["new"], "by index"))

    for button in buttons:
        button.on_click(on_click)
    field.observe(on_type, names="value")
    shown = view(first, start)
    put(output, shown)
    alive(
        ipywidgets.HBox([*buttons, field]),
        f"<p>Stored here: the {start} sample. In a running notebook buttons and a field choose another.</p>",
    )
    alive(output, shown.data)


def sort_table(table, columns, by, digits=2, rows=10):
    """A table that sorts: choose the column and the direction; the first `rows` rows show. Sorted by `by`, worst first,
    when stored.
    """
    columns = list(columns)
    chooser = ipywidgets.Dropdown(options=columns, value=by, description="sort by")
    falling = ipywidgets.Checkbox(False, description="largest first")
    output = ipywidgets.Output()

    def view():
        ordered = table.sort_values(chooser.value, ascending=not falling.value, na_position="last")
        note = (
            f"<p><small>{min(rows, len(table))} of {len(table)} rows, sorted by"
            f" {html.escape(chooser.value)}.</small></p>"
        )
        return HTML(ordered[columns].head(rows).round(digits).to_html(index=False, border=0, na_rep="–") + note)

    for control in (chooser, falling):
        control.observe(lambda _: put(output, view()), names="value")
    put(output, view())
    alive(ipywidgets.HBox([chooser, falling]), "<p><small>In a running notebook this table sorts.</small></p>")
    alive(output, view().data)


def _as_html(shown):
    return shown.data if isinstance(shown, HTML) else str(shown)


def _choices(table, column, random):
    """Button name -> a function that returns an index of `table`; random draws anew at each call."""
    known = table.dropna(subset=[column])
    if not len(known):
        raise ValueError(f"no sample to pick: the table holds no value in {column!r}.")
    scores = known.set_index("index")[column]
    return {"best": scores.idxmax, "worst": scores.idxmin, "random": lambda: random.choice(scores.index)}
