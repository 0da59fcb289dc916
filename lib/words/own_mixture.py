"""Mix your own words: choose two to four and their levels, and watch the network's bars follow."""

import html
import io

import numpy as np
import PIL.Image
from IPython.display import HTML, Image

from lib import listening
from lib.words.mixtures import SR, Plan, mix
from lib.words.views import clip_view, parts_of


def mixed(pool, names, levels_db, answer, starts=None):
    """A clip of the words `names` at `levels_db`, played, pictured and answered: one piece of HTML. answer: clip ->
    `(words,)`.
    """
    numbers = np.array([np.flatnonzero(pool.word == pool.words.index(name))[0] for name in names])
    power = 10 ** (np.asarray(levels_db, float) / 10)
    plan = Plan(
        numbers,
        np.zeros(len(names), int),
        power / power.sum(),
        np.asarray(starts if starts is not None else np.linspace(0.2, 0.8, len(names))),
    )
    clip, _, shares = mix(pool, plan)
    figure = clip_view(clip, pool.words, shares, answer(clip))
    return HTML(
        listening.players(parts_of(pool, plan), SR).data
        + listening.picture_html(_png(figure), "The mixture and the shares of its words")
    )


def mix_your_own(pool, answer, start=("kilo", "romeo", "tango")):
    """Choose two to four words and their levels, and watch the bars: widgets in a running notebook, the start's mixture
    as stored output.
    """
    import ipywidgets

    said = [pool.words[k] for k in sorted(set(pool.word))]
    start = [name for name in start if name in said] or said[:3]
    chooser = ipywidgets.SelectMultiple(options=said, value=tuple(start), rows=8, description="words")
    sliders = [ipywidgets.FloatSlider(0, min=-12, max=12, step=1, continuous_update=False) for _ in range(4)]
    output = ipywidgets.Output()

    def view():
        names = list(chooser.value)
        for number, slider in enumerate(sliders):
            slider.layout.visibility = "visible" if number < len(names) else "hidden"
            slider.description = f"{names[number]} (dB)" if number < len(names) else ""
        if not 1 <= len(names) <= 4:
            return HTML(f"<p>{len(names)} words are chosen; choose one to four (Ctrl or Shift for several).</p>")
        try:
            return mixed(pool, names, [slider.value for slider in sliders[: len(names)]], answer)
        except ValueError as error:
            return HTML(f"<p><b>This does not work:</b> {html.escape(str(error))}</p>")

    for control in (chooser, *sliders):
        control.observe(lambda _: listening.put(output, view()), names="value")
    shown = view()
    listening.put(output, shown)
    listening.alive(
        ipywidgets.HBox([chooser, ipywidgets.VBox(sliders)]),
        "<p>Stored here: one mixture. In a running notebook a list of words and a slider a word make others.</p>",
    )
    listening.alive(output, shown.data)


def _png(figure):
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png")
    PIL.Image.open(buffer).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return Image(small.getvalue(), format="png")
