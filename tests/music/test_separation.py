"""Whole songs through the separator, what it is measured by, and two results compared with MLflow."""

from pathlib import Path

import made_songs
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from lib import audio, metrics
from lib.music import compare, evaluation, layouts, separation, songs, training

torch.set_num_threads(1)
SR = 22050


class Halves(torch.nn.Module):
    """A stand-in separator whose answer is known: half of what it hears. Counts its calls."""

    def __init__(self):
        super().__init__()
        self.weight, self.heard = torch.nn.Parameter(torch.tensor(0.5)), []
        self.config = training.CRNNConfig()

    def separate(self, mix):
        self.heard.append(mix.shape[-1])
        return (mix * self.weight).detach()


@pytest.fixture(scope="module")
def song():
    parts = made_songs.stems(7.3)
    return sum(parts.values()) * 0.6, {name: wave.mean(1) * 0.6 for name, wave in parts.items()}


# --- whole songs


@pytest.mark.parametrize("samples", [100, SR, 2 * SR, 2 * SR + 1, 3 * SR - 7, 7 * SR + 123])
def test_chunks_fade_into_each_other_without_a_seam(samples):
    wave, model = np.random.default_rng(0).standard_normal(samples).astype(np.float32) * 0.1, Halves()
    mix, est = separation.separate_wave(model, wave, SR, chunk=2.0, fade=0.5)
    assert np.array_equal(mix, wave) and est.shape == wave.shape and np.abs(est - 0.5 * wave).max() < 1e-6
    assert max(model.heard) <= 2 * SR


def test_pieces_of_any_size_give_the_same():
    wave, model = (
        np.random.default_rng(1).standard_normal(5 * SR).astype(np.float32) * 0.1,
        training.new(channels=(4, 4, 4, 8), hidden=8),
    )
    cuts = [wave[:10], wave[10:50000], wave[50000:50001], wave[50001:]]
    whole, pieces = (
        np.concatenate([est for _, est in separation.stream(model, given, 2.0, 0.25)]) for given in ([wave], cuts)
    )
    assert np.array_equal(whole, pieces)
    with pytest.raises(ValueError, match="must be from 0 to half of a chunk"):
        list(separation.stream(model, [wave], 2.0, 1.5))


@pytest.mark.parametrize(
    "suffix, sr", [(".wav", 22050), (".flac", 44100), (".mp3", 44100), (".ogg", 48000), (".m4a", 44100)]
)
def test_formats_rates_and_channels(tmp_path, song, suffix, sr):
    path, wave = tmp_path / f"my song{suffix}", audio.resample(song[0].T, SR, sr).T
    if suffix == ".m4a":
        from lib.listening import write_m4a

        write_m4a(path, wave.mean(1), sr)
    else:
        soundfile.write(path, wave, sr)
    done = separation.separate_file(Halves(), path, tmp_path / "out", chunk=3.0, progress=False)
    assert done.target.name == "my song_vocals.wav" and done.rest.name == "my song_accompaniment.wav"
    target, rest = (soundfile.read(file)[0] for file in (done.target, done.rest))
    assert (
        soundfile.info(done.target).samplerate == SR
        and done.audio_seconds == pytest.approx(7.3, abs=0.1)
        and done.rtf > 0
    )
    expected = song[0].mean(1)
    samples = min(len(expected), len(target))
    late = (
        0
        if suffix not in (".mp3", ".m4a")
        else np.argmax(np.correlate(np.pad((target + rest)[:SR], 3000), expected[:SR], "valid")) - 3000
    )
    both = np.roll(target + rest, -int(late))[: samples - 3000]
    assert metrics.si_sdr(both, expected[: samples - 3000]) > (20 if suffix in (".wav", ".flac") else 8)
    assert np.abs(target - rest).max() < 1e-3 and sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(
        [done.target.name, done.rest.name]
    )


def test_memory_does_not_grow_with_the_song(tmp_path):
    held = []
    pieces = (np.full(SR, 0.1, np.float32) for _ in range(120))
    for mix, _est in separation.stream(Halves(), pieces, 5.0, 0.5):
        held.append(len(mix))
    assert sum(held) == 120 * SR and max(held) <= 5 * SR


def test_bad_songs_are_named_and_leave_nothing_behind(tmp_path, song):
    out, model = tmp_path / "out", Halves()
    soundfile.write(tmp_path / "silent.wav", np.zeros(SR), SR)
    (tmp_path / "empty.mp3").write_bytes(b"")
    (tmp_path / "text.mp3").write_text("this is no song " * 100)
    soundfile.write(tmp_path / "good.mp3", song[0], SR)
    damaged = bytearray((tmp_path / "good.mp3").read_bytes())
    damaged[2000:] = np.random.default_rng(0).integers(0, 128, len(damaged) - 2000).astype(np.uint8).tobytes()
    (tmp_path / "corrupt.mp3").write_bytes(bytes(damaged))
    for name, message in (
        ("silent.wav", "silent"),
        ("empty.mp3", "0 bytes"),
        ("text.mp3", "cannot be decoded"),
        ("none.wav", "no such file"),
        ("corrupt.mp3", r"damaged|decoded"),
    ):
        with pytest.raises(separation.SeparationError, match=rf"{name}: .*({message})"):
            separation.separate_file(model, tmp_path / name, out, progress=False)
    assert not list(out.iterdir())


# --- figures


def test_global_sdr_and_the_reading_guide_by_hand():
    ref = np.random.default_rng(0).standard_normal(SR)
    assert evaluation.global_sdr(0.9 * ref, ref) == pytest.approx(20) and evaluation.global_sdr(ref, ref) == 100
    assert evaluation.global_sdr(-ref, ref) == pytest.approx(-10 * np.log10(4)) and np.isnan(
        evaluation.global_sdr(ref, 0 * ref)
    )
    assert [evaluation.grade(sdr) for sdr in (-1, 0, 2.9, 4, 5, 6.9, 7.1)] == [
        "failed",
        "poor",
        "poor",
        "fair",
        "good",
        "good",
        "excellent",
    ]
    assert evaluation.grade(float("nan")) == "no value"


def test_museval_knows_noise_of_a_known_level_and_interference_from_artefacts():
    rng = np.random.default_rng(0)
    ref, rest, other = (rng.standard_normal(3 * SR) for _ in range(3))
    sdr, sir, sar = evaluation.bss_eval(ref + 0.1 * rest, ref, rest - 0.1 * rest, rest, SR)
    assert sdr == pytest.approx(20, abs=0.3) and sir == pytest.approx(20, abs=0.5) and sar > 25
    sdr, sir, sar = evaluation.bss_eval(ref + 0.1 * other, ref, rest - 0.1 * other, rest, SR)
    assert sdr == pytest.approx(20, abs=0.3) and sir > 30 and sar == pytest.approx(20, abs=0.5)


def test_listening_checks_as_numbers(song):
    _, parts = song
    mix = sum(parts.values())
    est = np.where(
        np.arange(len(mix)) < 7.3 * SR / 3, 0.1 * mix, parts["vocals"]
    )  # 20 dB down before the voice comes in, then perfect
    assert evaluation.quieter_where_silent(est, parts["vocals"], mix, SR) == pytest.approx(20, abs=0.1)
    assert np.isnan(evaluation.quieter_where_silent(mix, mix, mix, SR))
    arguments = parts["vocals"], mix, parts["drums"], SR
    assert evaluation.drums_left(mix, *arguments) == pytest.approx(1) and evaluation.drums_left(
        0.5 * mix, *arguments
    ) == pytest.approx(0.25)
    assert evaluation.drums_left(parts["vocals"], *arguments) < 0.3


def test_floor_and_ceiling_stand_around_any_mask(song, tmp_path):
    made_songs.plain(tmp_path, {"test": 1}, seconds=4.0)
    table = evaluation.score(
        training.new(channels=(4, 4, 4, 8), hidden=8), layouts.open_songs(tmp_path), progress=False
    )
    assert table["system"].tolist() == ["mixture", "CRNN", "ideal ratio mask"] and set(evaluation.DEFINITIONS) <= set(
        table
    )
    assert table["si_sdri"][0] == pytest.approx(0) and table["drums_left"][0] == pytest.approx(1)
    assert table["museval_sdr"][2] > 8 > table["museval_sdr"][0] and table["global_sdr"][2] > table["global_sdr"][1]
    summary = evaluation.summarise(table)
    assert summary["songs"].tolist() == [1, 1, 1] and summary["rtf"][1] > 0 and np.isnan(summary["rtf"][0])


def test_the_real_excerpt_is_there_in_stems():
    title, stems = evaluation.real_excerpt()
    assert title and set(stems) == {"mixture", *songs.STEMS} and len(stems["vocals"]) > 5 * SR
    left = audio.rms_db(stems["mixture"] - sum(stems[name] for name in songs.STEMS)) - audio.rms_db(stems["mixture"])
    assert -20 < left < -12  # a mastered mixture: not quite the sum


def test_the_interval_of_a_median_by_hand():
    assert evaluation.median_interval([4.0, 4.0, 4.0]) == (4.0, 4.0)
    low, high = evaluation.median_interval(np.arange(101))
    assert 50 - low == pytest.approx(1.96 * 5, rel=0.15) and high - 50 == pytest.approx(
        1.96 * 5, rel=0.15
    )  # evenly spread: deviation 101 / (2 sqrt(101))
    assert evaluation.median_interval(np.arange(101)) == (low, high)


@pytest.mark.parametrize("target", ["vocals", "drums"])
def test_a_report_keeps_tables_and_picture(tmp_path, capsys, target):
    made_songs.plain(tmp_path / "songs", {"test": 2}, seconds=3.0)
    model = training.new(channels=(4, 4, 4, 8), hidden=8, target=target)
    training.report(model, layouts.open_songs(tmp_path / "songs", target), tmp_path)
    told = capsys.readouterr().out
    assert "of 2 over 5 dB" in told and "a real excerpt, " in told and (tmp_path / "scores.png").stat().st_size > 5000
    own, real = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("scores", "real"))
    assert len(own) == 6 and real["system"].tolist() == ["mixture", "CRNN", "ideal ratio mask"]
    assert real["drums_left"].isna().all() == (target == "drums")


# --- two results compared


@pytest.fixture
def files(tmp_path, song):
    ref, rng = song[1]["vocals"], np.random.default_rng(0)
    noise = rng.standard_normal(len(ref)).astype(np.float32)
    noise *= np.sqrt(np.mean(ref**2) / np.mean(noise**2))
    waves = {"reference": ref, "a": ref + 0.1 * noise, "b": ref + 0.03 * noise, "mixture": sum(song[1].values())}
    for name, wave in waves.items():
        made_songs.write(tmp_path / f"{name}.wav", wave)
    return {name: tmp_path / f"{name}.wav" for name in waves}, waves


def test_the_better_result_is_named_and_logged(files, tmp_path):
    paths, _ = files
    found = compare.compare(
        paths["reference"],
        paths["a"],
        paths["b"],
        names=("laptop", "GPU"),
        parameters={"GPU": {"epochs": 3}},
        store=tmp_path / "runs",
    )
    table = found.table.set_index("metric")
    assert table.loc["global_sdr", "laptop"] == pytest.approx(20, abs=0.1) and table.loc[
        "global_sdr", "difference"
    ] == pytest.approx(10.46, abs=0.1)
    assert (table["ahead"] == "GPU").all() and not found.said
    told = compare.verdict(found)
    assert (
        "GPU is ahead by 10.4" in told
        and "So GPU leads in 3 of 3 figures" in told
        and "mlflow ui --backend-store-uri" in told
    )
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=found.store)
    run = client.get_run(found.run_id)
    assert (
        client.get_experiment(run.info.experiment_id).name == "Model_Comparison"
        and run.data.params["GPU.epochs"] == "3"
    )
    assert run.data.metrics["global_sdr.difference"] == pytest.approx(table.loc["global_sdr", "difference"])
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["comparison_result.png"]
    assert (Path(run.info.artifact_uri.removeprefix("file://")) / "comparison_result.png").stat().st_size > 5000
    assert compare.runs_logged(tmp_path / "runs")["experiment"].tolist() == ["Model_Comparison"]


def test_what_does_not_match_is_aligned_and_said_or_refused(files, tmp_path):
    paths, waves = files
    late = np.concatenate([np.zeros(441, np.float32), waves["a"]])  # 20 ms
    made_songs.write(tmp_path / "late.wav", late)
    made_songs.write(tmp_path / "rate.wav", audio.resample(waves["b"], SR, 44100), 44100)
    (ref, a, b, none), said = compare.read_aligned(paths["reference"], tmp_path / "late.wav", tmp_path / "rate.wav")
    assert (
        none is None
        and len(ref) == len(a) == len(b)
        and said == ["B: 44100 Hz converted to 22050 Hz", "A: 20.0 ms too late, shifted back", "A: cut by 0.020 s"]
    )
    assert evaluation.global_sdr(a, ref) == pytest.approx(20, abs=0.2) and evaluation.global_sdr(b, ref) > 27
    made_songs.write(tmp_path / "early.wav", waves["a"][441:])
    (ref, a, *_), said = compare.read_aligned(paths["reference"], tmp_path / "early.wav", paths["b"])
    assert said[0] == "A: 20.0 ms too early, shifted back" and evaluation.global_sdr(a[441:], ref[441:]) > 19
    made_songs.write(tmp_path / "short.wav", waves["a"][: 5 * SR])
    with pytest.raises(
        compare.ComparisonError, match=r"short.wav: 5.00 s, but the reference .*reference.wav has 7.30 s"
    ):
        compare.read_aligned(paths["reference"], paths["a"], tmp_path / "short.wav")
    made_songs.write(tmp_path / "silent.wav", 0 * waves["a"])
    with pytest.raises(compare.ComparisonError, match="silent.wav: the reference is silent"):
        compare.read_aligned(tmp_path / "silent.wav", paths["a"], paths["b"])
    with pytest.raises(compare.ComparisonError, match="two names"):
        compare.compare(paths["reference"], paths["a"], paths["b"], names=("A", "A"))
