"""Players, spectrograms, the sample picker, uploads and plots: what a reader hears and sees is what was computed."""

import base64
import importlib.util
import io
import json
import re
import sys
import types
import warnings
from datetime import datetime

import ipywidgets
import matplotlib
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import soundfile
from IPython.core.interactiveshell import InteractiveShell

from lib import audio, listening, plots
from lib.listening import formulas, intake, pictures, recording, widgets

matplotlib.use("agg")
SR = 16000


@pytest.fixture(scope="module")
def wave():
    time = np.arange(5 * SR) / SR
    return (0.3 * np.sin(2 * np.pi * 440 * time) * np.sin(2 * np.pi * 0.5 * time)).astype(np.float32)


def decoded(html, kind="mpeg"):
    """Every wave inside a piece of HTML, as its players would play it."""
    found = re.findall(rf"data:audio/{kind};base64,([^\"]+)", html)
    return [soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="float32") for content in found]


def test_a_player_is_small_keeps_the_level_and_never_starts_by_itself(wave):
    html = listening.player(wave, SR, "mixture <1>").data
    ((heard, sr),) = decoded(html)
    assert sr == SR and len(heard) == pytest.approx(len(wave), abs=0.1 * SR)  # MP3 comes in frames
    assert audio.rms_db(heard) == pytest.approx(audio.rms_db(wave), abs=1.0)
    assert len(html) < 30_000
    assert "autoplay" not in html and "mixture &lt;1&gt;" in html
    assert 'preload="metadata"' in html and 'aria-label="mixture &lt;1&gt;, 5.0 s"' in html and ".pause()" in html


def test_players_keep_the_fixed_order_and_each_level(wave):
    waves = listening.in_order(wave, 0.5 * wave, {"starter": 0.1 * wave, "fine-tuned": 0.2 * wave}, wave)
    assert list(waves) == ["mixture", "enrollment", "starter", "fine-tuned", "reference"]
    assert list(listening.in_order(wave, estimates=wave)) == ["mixture", "estimate"]
    html = listening.players(waves).data
    places = [html.index(f">{label}<") for label in waves]
    assert places == sorted(places)
    levels = [audio.rms_db(heard) for heard, _ in decoded(html)]
    np.testing.assert_allclose(np.diff(levels), np.diff([audio.rms_db(made) for made in waves.values()]), atol=0.5)
    assert "nothing is normalised" in html


def test_where_one_wave_exceeds_full_scale_all_are_turned_down_alike(wave):
    html = listening.players({"a": wave, "b": 8 * wave}).data
    (quiet, _), (loud, _) = decoded(html)
    assert audio.rms_db(loud) - audio.rms_db(quiet) == pytest.approx(18.06, abs=0.5)
    assert "turned down by" in html


def test_a_wave_that_cannot_be_played_is_an_error_that_says_why(wave):
    with pytest.raises(audio.AudioError, match="NaN"):
        listening.player(np.full(100, np.nan), SR)
    with pytest.raises(audio.AudioError, match="not empty"):
        listening.player(wave[:0], SR)
    with pytest.raises(audio.AudioError, match=r"\(2, 80000\)"):
        listening.player(np.stack([wave, wave]), SR)


def test_spectrograms_share_one_scale(wave):
    waves = {"loud": wave, "faint": 0.01 * wave, "short": wave[:SR]}
    figure = pictures._spectrogram_figure(waves, SR)
    images = [axis.images[0] for axis in figure.axes if axis.images]
    assert {image.get_clim() for image in images} == {(-60.0, 0.0)}
    tops = [float(image.get_array().max()) for image in images]
    assert tops[0] == pytest.approx(0.0) and tops[1] == pytest.approx(-40.0, abs=0.5)
    rows, _columns = np.unravel_index(images[0].get_array().argmax(), images[0].get_array().shape)
    assert rows * SR / 512 == pytest.approx(440, abs=SR / 512)
    assert images[2].get_extent()[1] == pytest.approx(1.0) and figure.axes[0].get_xlim()[1] == pytest.approx(5.0)
    picture = listening.spectrograms(waves)
    assert PIL.Image.open(io.BytesIO(picture.data)).size[0] > 500 and len(picture.data) < 100_000
    assert picture.alt == "Spectrograms, time against frequency, of: loud, faint, short."
    assert 'alt="Spectrograms, time against frequency, of: loud' in listening.sample_view(waves).data
    with pytest.raises(ValueError, match="at least one wave"):
        listening.spectrograms({})


@pytest.mark.parametrize("columns", [1, 3])
def test_each_player_has_a_cursor_over_its_own_spectrogram(wave, columns):
    hiss = np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32) / 10
    waves = {"a": wave, "b": hiss[:SR], "c": wave, "d": wave}
    html = listening.sample_view(waves, columns=columns).data
    assert 'style="display:flex;flex-wrap:wrap' in html  # players and picture side by side, where there is room
    places = [
        tuple(float(x) for x in found)
        for found in re.findall(r"left:([\d.]+)%;top:([\d.]+)%;width:([\d.]+)%;height:([\d.]+)%", html)
    ]
    assert len(places) == 4 == html.count("ontimeupdate=") == html.count('class="at"')
    assert places[3][0] == places[0][0] and places[3][1] > places[0][1]
    assert (places[0][0] < places[1][0] < places[2][0]) if columns == 3 else (places[0][1] < places[1][1])
    image = PIL.Image.open(io.BytesIO(base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", html)[1])))
    pixels = np.asarray(image.convert("L"), float)
    left, top, width, height = places[1]  # the short wave: bright in its first fifth, black behind it
    rows = slice(int((top + 2) * image.height / 100), int((top + height - 2) * image.height / 100))
    inside = pixels[rows, int(left * image.width / 100) + 2 : int((left + width) * image.width / 100) - 2]
    fifth = inside.shape[1] // 5
    assert inside[:, : fifth - 3].max() > 100 and inside[:, fifth + 8 :].max() < 10


@pytest.fixture
def alive(monkeypatch):
    """What chapters display alive: `(widget, stored HTML)`, in order."""
    shown = []
    for module in (widgets, intake):
        monkeypatch.setattr(module, "alive", lambda widget, stored: shown.append((widget, stored)))
    return shown


def page(output):
    """The HTML that an `Output` widget holds: what a page loaded anew with the kernel alive would show."""
    (one,) = output.outputs
    return one["data"]["text/html"]


def test_of_a_long_recording_the_beginning_is_shown_and_said(wave, monkeypatch):
    monkeypatch.setattr(pictures, "SHOWN", 2)
    long = np.tile(wave, -(-5 * SR // len(wave)))[: 5 * SR]
    shown = listening.sample_view({"mixture": long, "enrollment": long[:SR]}).data
    assert "of 0 minutes" in shown and 'data-seconds="2.000"' in shown
    assert "minutes" not in listening.sample_view({"enrollment": long[:SR]}).data


def test_what_is_alive_has_plain_html_beside_it(monkeypatch):
    given = []
    monkeypatch.setattr(widgets, "display", lambda bundle, raw: given.append((bundle, raw)))
    button = ipywidgets.Button()
    listening.alive(button, "<p>stored</p>")
    ((bundle, raw),) = given
    assert raw and bundle["text/html"] == "<p>stored</p>"
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == button.model_id


def test_the_picker_shows_the_worst_sample_and_others_on_demand_in_a_widget_that_lives_on(wave, alive):
    table = pd.DataFrame({"index": [3, 5, 9], "si_sdri": [1.0, -2.0, 4.0]})
    listening.pick_sample(table, lambda index: listening.players({f"sample {index}": wave}))
    (controls, _), (output, stored) = alive
    assert "Sample 5 (worst): si_sdri -2.00 dB." in stored and "audio/mpeg" in stored and page(output) == stored
    best, _worst, random, field = controls.children
    best.click()
    assert "Sample 9 (best): si_sdri 4.00 dB." in page(output) and ">sample 9<" in page(output) and field.value == 9
    field.value = 3
    assert "Sample 3 (by index)" in page(output)
    field.value = 4
    assert "no sample with the index 4" in page(output)
    field.value = 99
    assert "no sample with the index 99" in page(output) and "3 to 9" in page(output)
    drawn = set()
    for _ in range(40):
        random.click()
        drawn.add(page(output)[:12])
    assert len(drawn) == 3
    with pytest.raises(ValueError, match="best, worst, random"):
        listening.pick_sample(table, str, start="median")
    with pytest.raises(ValueError, match="no sample to pick"):
        listening.pick_sample(table.assign(si_sdri=np.nan), str)


def test_the_table_sorts(alive):
    listening.sort_table(
        pd.DataFrame(dict(index=[1, 2, 3], si_sdri=[2.0, -1.0, 5.0], pesq=[1.3, 1.2, 1.1])),
        ["index", "si_sdri", "pesq"],
        by="si_sdri",
        rows=2,
    )
    (controls, _), (output, stored) = alive
    first = lambda shown: re.findall(r"<td>(.*?)</td>", shown)[0]  # noqa: E731
    assert first(stored) == "2" and stored.count("<tr>") == 2 and "2 of 3 rows" in stored
    chooser, falling = controls.children
    chooser.value = "pesq"
    assert first(page(output)) == "3"
    falling.value = True
    assert first(page(output)) == "1"


def file(name, content):
    return ({"name": name, "content": content, "type": "", "size": 1, "last_modified": datetime.now()},)


def test_what_is_uploaded_or_recorded_arrives_and_what_is_wrong_is_said(wave, alive, monkeypatch):
    given, shown = [], []
    monkeypatch.setattr(intake, "display", shown.append)
    listening.upload_pair(lambda mix, enrollment: given.append((mix, enrollment)) or "done")
    ((box, stored),) = alive
    mixture, enrollment, pressed, _ = box.children
    (field, recorder), facts = mixture.children[0].children, mixture.children[1]
    (button, limit) = pressed.children
    assert "mixture, enrollment" in stored and facts.value == "mixture: nothing chosen yet" and "MB" in limit.value
    button.click()
    assert "Choose a file for: mixture" in shown[-1].data
    field.value = enrollment.children[0].children[0].value = file("a.flac", listening.encode(wave, SR, "flac"))
    assert "mixture: a.flac, 0." in facts.value and "5.0 s" in facts.value
    button.click()
    assert shown[-1] == "done" and len(given[-1][0]) == len(wave)
    recorder.pcm = memoryview((0.5 * wave[: 2 * SR]).astype("<f4").tobytes())  # as it comes from the page
    assert facts.value == "mixture: recording 1, 2.0 s"  # the last one that came counts
    button.click()
    np.testing.assert_array_equal(given[-1][0], 0.5 * wave[: 2 * SR])
    assert given[-1][0].dtype == np.float32 and len(given[-1][1]) == len(wave)
    recorder.pcm = bytes(4 * SR)  # a microphone that was off
    assert "1.0 s, <b>silent" in facts.value
    field.value = file("b.wav", b"nothing")
    assert "b.wav" in facts.value and "<b>" in facts.value
    button.click()
    assert "This does not work:" in shown[-1].data and "b.wav" in shown[-1].data and len(given) == 2


def test_what_the_work_on_an_upload_warns_of_stands_on_the_page_as_a_sentence(wave, alive, monkeypatch):
    shown = []
    monkeypatch.setattr(intake, "display", shown.append)

    def run(one):
        warnings.warn("the <clip> is short", stacklevel=1)
        return "done"

    listening.upload(run, "clip", press="go")
    ((box, _),) = alive
    clip, pressed, _ = box.children
    apart = io.BytesIO()
    soundfile.write(apart, np.stack([wave, -wave], 1), SR, format="WAV")
    clip.children[0].children[0].value = file("c.wav", apart.getvalue())
    assert "channels cancel" in clip.children[1].value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pressed.children[0].click()
    assert [getattr(one, "data", one) for one in shown] == ["<p><b>Note:</b> the &lt;clip&gt; is short</p>", "done"]


def test_several_recordings_add_up(wave, alive, monkeypatch):
    given = []
    monkeypatch.setattr(intake, "display", lambda shown: None)
    listening.upload(given.append, "clips", press="learn", several=True)
    ((box, _),) = alive
    clips, pressed, _ = box.children
    for seconds in (1, 2):
        clips.children[0].children[1].pcm = wave[: seconds * SR].tobytes()
    pressed.children[0].click()
    assert [len(one) // SR for one in given[0].values()] == [1, 2]


def test_an_intake_without_a_button_says_when_something_came_and_gives_the_latest(wave):
    one, calls = listening.Intake("noise"), []
    one.on_arrival(lambda: calls.append(len(one.latest("nothing"))))
    field, recorder = one.widget.children[0].children
    assert one.latest("nothing") == "nothing" and one.latest() is None
    recorder.pcm = wave[:SR].tobytes()
    field.value = file("b.wav", b"no sound")
    field.value = file("a.flac", listening.encode(wave, SR, "flac"))
    assert calls == [SR, len("nothing"), len(wave)]


def test_without_anywidget_a_sentence_stands_where_the_recorder_would(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    spec = importlib.util.spec_from_file_location("recording_without", recording.__file__)
    without = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    one = without.Recorder("record a clip")
    assert "pip install anywidget" in one.value and one.wave is None and not one.has_trait("pcm")


def test_every_figure_of_a_notebook_has_alt_text_that_says_what_is_in_it():
    figure, axis = matplotlib.pyplot.subplots()
    axis.plot([1, 2], label="training")
    axis.plot([2, 1], label="validation")
    axis.set(title="by voice", xlabel="epoch", ylabel="loss")
    axis.legend()
    shell = InteractiveShell()
    pictures.describe_figures(shell)
    data, metadata = shell.display_formatter.format(figure)
    assert PIL.Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size[0] > 300
    assert metadata["image/png"]["alt"] == "Figure: by voice, loss against epoch, shown: training, validation."


def test_what_is_put_into_a_widget_replaces_what_was_there(wave):
    output = ipywidgets.Output()
    listening.put(output, listening.players({"first": wave}))
    listening.put(output, listening.players({"second": wave}))
    (shown,) = output.outputs
    assert ">second<" in shown["data"]["text/html"]
    listening.put(output, listening.spectrograms({"a": wave}))
    assert set(output.outputs[0]["data"]) == {"image/png"}


def test_uploads_of_any_format_and_rate_are_read(wave, tmp_path):
    for suffix, rate in ((".wav", 44100), (".flac", 8000), (".ogg", 22050), (".mp3", 48000)):
        path = tmp_path / f"mine{suffix}"
        soundfile.write(path, np.stack([audio.resample(wave, SR, rate)] * 2, axis=1), rate)
        read = listening.read_bytes(memoryview(path.read_bytes()), f"My {suffix} take{suffix.upper()}")
        assert read.dtype == np.float32 and len(read) == pytest.approx(len(wave), abs=0.15 * SR)
        assert audio.rms_db(read) == pytest.approx(audio.rms_db(wave), abs=1.0)
    with pytest.raises(audio.AudioError, match="^notes.txt"):
        listening.read_bytes(b"no audio at all", "notes.txt")


def test_an_m4a_file_written_here_is_read_back(wave, tmp_path):
    path = listening.write_m4a(tmp_path / "mine.m4a", wave)
    read = audio.read(path, SR)
    assert len(read) == pytest.approx(len(wave), abs=0.15 * SR) and audio.rms_db(read) == pytest.approx(
        audio.rms_db(wave), abs=1.0
    )


def test_waves_survive_the_formats_of_phones(wave):
    mix, enrollment = listening.through_formats(wave, wave[: 3 * SR])
    for read, written in ((mix, wave), (enrollment, wave[: 3 * SR])):
        assert len(read) == pytest.approx(len(written), abs=0.15 * SR) and audio.rms_db(read) == pytest.approx(
            audio.rms_db(written), abs=1.0
        )


def test_the_download_holds_the_wave_without_loss(wave):
    html = listening.download_link(wave, name="my estimate.wav").data
    ((heard, sr),) = decoded(html, "flac")
    np.testing.assert_allclose(heard, wave, atol=1 / 32768)
    assert sr == SR and 'download="my estimate.flac"' in html
    assert html.endswith(listening.NEEDS_SCRIPTS)  # a page without scripts takes the link away and keeps a sentence


def labelled(figure):
    return all(axis.get_xlabel() and axis.get_ylabel() for axis in figure.axes)


def test_plots_name_their_axes_and_count_what_they_show():
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        dict(
            sir_db=random.normal(2, 3, 90),
            snr_db=np.where(np.arange(90) < 50, np.nan, 6.0),
            difficulty=["easy", "hard"] * 45,
            system=["a"] * 45 + ["b"] * 45,
            si_sdri=random.normal(2, 2, 90),
        )
    )
    histograms = plots.histograms(table, ["sir_db", "snr_db"], by="difficulty")
    assert labelled(histograms) and histograms.axes[1].get_title() == "50 without a value"
    assert histograms.axes[1].get_ylim()[1] > 1  # all of one group in one bin: a share of 1, not a count
    assert labelled(plots.level_before_after([-30, -25.0], [-20, -20.0], target=-20))
    assert labelled(
        plots.improvement_by_ratio(table, interval=lambda values: (values.mean(), values.min(), values.max()))
    )
    bars = plots.improvement_by_sample([-1, 0.5, 2, 3, np.nan])
    assert [text.get_text() for text in bars.axes[0].get_legend().get_texts()] == [
        "improved (over 1 dB): 2 of 4",
        "worse (below 0 dB): 1 of 4",
        "about as before: 1 of 4",
    ]
    voices = pd.DataFrame(
        dict(speaker=list("aabc"), seconds=[60.0, 60, 30, 90], split=["Train", "Train", "Val", "Test"])
    )
    assert plots.minutes_by_speaker(voices).axes[0].get_legend().get_texts()[0].get_text() == "Train: 1 speakers, 2 min"
    assert plots.minutes_by_speaker(voices.drop(columns="split")).axes[0].get_ylabel() == "speech (min)"
    history = dict(epoch=[1, 2, 3], train_loss=[0, -1.0, -1], val_loss=[0, -0.5, -1.0], val_si_sdri=[0.0, 2.0, 1.0])
    curve = plots.learning_curve(pd.DataFrame(history))  # the star stands where the loss is lowest, not the metric best
    assert labelled(curve) and curve.axes[1].get_legend().get_texts()[0].get_text() == "kept: epoch 3, 1.00 dB"
    groups = pd.DataFrame(
        dict(
            difficulty=["easy", "hard"] * 2,
            system=list("aabb"),
            mean=[1, 2, 3, 4.0],
            low=[0, 1, 2, 3.0],
            high=[2, 3, 4, 5.0],
        )
    )
    assert len(plots.groups_with_intervals(groups).axes[0].containers) == 4
    points = pd.DataFrame(
        dict(
            strategy=["head", "all"], trainable=[10, 1000], test_si_sdri=[1.0, 2], test_low=[0.5, 1], test_high=[1.5, 3]
        )
    )
    assert labelled(plots.strategies(points, baseline=0.8))


def test_plots_say_which_column_is_missing():
    with pytest.raises(ValueError, match="snr_db"):
        plots.histograms(pd.DataFrame(dict(sir_db=[1.0])), ["snr_db"])
    with pytest.raises(ValueError, match="train_loss"):
        plots.learning_curve(pd.DataFrame(dict(epoch=[1])))
    with pytest.raises(ValueError, match="trainable"):
        plots.strategies(pd.DataFrame(dict(strategy=["a"], test_si_sdri=[1.0])))


def test_the_summary_table_marks_the_best_and_writes_shares_in_percent():
    page = plots.summary_table(
        pd.DataFrame(dict(system=["a", "b"], si_sdri=[1.0, 2.5], share_over_1_db=[0.5, 0.75], mixtures=[100, 100]))
    ).to_html()
    assert "75%" in page and "2.50" in page and ">100<" in page
    bold = re.search(r"([^}]*)\{\s*font-weight: bold", page)[1]
    assert "row1_col1" in bold and "row0" not in bold


def test_formulas_of_an_exported_page_are_mathml_and_code_and_prices_stay():
    kept = "`$x$` or $5 and $6 or\n```\n$y$\n```"
    shown = formulas.with_mathml("A level, $20\\log_{10} x_1 * 2$, and $$\\theta^2$$ for " + kept)
    assert shown.count("<math") == 2 and 'display="block"' in shown and "<mi>log</mi>" in shown
    assert shown.endswith(kept) and not {"_", "*"} & set(shown)
    cell = types.SimpleNamespace(cell_type="markdown", source="$x$")
    assert "<math" in formulas.ToMathML().preprocess_cell(cell, {}, 0)[0].source


def test_the_code_of_folded_cells_is_left_out_of_an_exported_page_and_its_output_stays():
    from nbconvert import HTMLExporter

    shown = {"output_type": "stream", "name": "stdout", "text": "heard"}
    cells = [
        dict(cell_type="code", source=f"{name} = 1", outputs=[shown], metadata={}, execution_count=1)
        for name in ("folded", "seen")
    ]
    cells[0]["metadata"]["jupyter"] = {"source_hidden": True}
    notebook = dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=4)
    page, _ = HTMLExporter(preprocessors=[formulas.Folded]).from_file(io.StringIO(json.dumps(notebook)))
    assert page.count("heard") == 2 and "folded" not in page and "seen" in page
