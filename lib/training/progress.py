"""How training shows itself: a live curve in a notebook, a bar on a terminal, a line an epoch elsewhere."""

import sys
import time

import pandas as pd


def progress_for(settings):
    """The right kind for where we are and for `settings.progress`."""
    if settings.progress == "none":
        return Silent()
    if _in_notebook():
        return Notebook()
    return Bar() if sys.stderr.isatty() else Lines()


def _in_notebook():
    if sys.modules.get("IPython") is None:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def describe(row, epochs=None):
    """One row of a history in words."""
    parts = [f"epoch {row['epoch']:.0f}" + (f"/{epochs}" if epochs else "")]
    parts += [f"train loss {row['train_loss']:.2f}"] if row["train_loss"] == row["train_loss"] else []
    parts += [f"val {name[4:].replace('_', ' ')} {value:.2f}" for name, value in row.items() if name.startswith("val_")]
    return ", ".join(parts) + f", {row['seconds']:.0f} s"


class Silent:
    """Shows nothing; the interface of the others."""

    def step(self, done, total, epochs):
        """After each step: `done` of `total` steps."""

    def epoch(self, rows, best):
        """After each validation: all rows so far, and the best of them."""

    def close(self):
        """At the end, also after an error."""


class Lines(Silent):
    """A line an epoch, for logs."""

    def epoch(self, rows, best):
        print(describe(rows[-1]) + ("  (best so far)" if best is rows[-1] else ""), flush=True)


class Bar(Silent):
    """A tqdm bar over all steps, with the last epoch's numbers beside it."""

    def __init__(self):
        self.bar = None

    def step(self, done, total, epochs):
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done - 1, unit="step")
        self.bar.update(done - self.bar.n)

    def epoch(self, rows, best):
        if self.bar is not None:
            self.bar.set_postfix_str(describe(rows[-1]))

    def close(self):
        if self.bar is not None:
            self.bar.close()


class Notebook(Silent):
    """A status line and a learning curve that redraw in place."""

    def __init__(self):
        from IPython.display import display

        self.status = display(_Text("measuring before training"), display_id=True)
        self.curve, self.started, self.shown, self.first = _live_curve(), time.perf_counter(), 0.0, None

    def step(self, done, total, epochs):
        self.first = done - 1 if self.first is None else self.first
        now = time.perf_counter()
        if now - self.shown > 0.5:
            left = (now - self.started) / (done - self.first) * (total - done)
            self.shown = now
            self.status.update(_Text(f"step {done} of {total}, at most {left:.0f} s to go"))

    def epoch(self, rows, best):
        self.status.update(_Text(f"{describe(rows[-1])}; best: epoch {best['epoch']:.0f}"))
        if self.curve is not None and len(rows) > 1:
            self.curve(pd.DataFrame(rows))


def _live_curve():
    """The curve of `lib.plots`, or None on a machine without matplotlib."""
    try:
        from lib.plots import LiveCurve
    except ImportError:
        return None
    return LiveCurve()


class _Text:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text
