"""Two results against one reference, logged with MLflow: who is ahead, by which figure, by how much, and a picture of
both.

    python -m lib.music.compare reference.wav estimate_a.wav estimate_b.wav --mixture mixture.wav --names "laptop" "GPU"

The two may come from two machines or two trainings. Waves are float32 mono `(samples,)`. The store is a local sqlite
file.
"""

import argparse
import os
import shlex
import tempfile
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile

from lib import audio, extras, metrics
from lib.music import evaluation
from lib.runs import ROOT

os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # read when mlflow is imported: no lines about its tables
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
EXPERIMENT = "Model_Comparison"
STORE = ROOT / "results" / "runs"
SR = 22050
ALIGNED = 0.5  # s by which lengths may differ; then the longer is cut
LATE = 0.1  # s by which an estimate may be shifted against the reference; then it is shifted back
ALIKE = 0.5  # correlation from which two waves are taken for the same, shifted or turned around
FLOOR_DB = -60.0


class ComparisonError(ValueError):
    """The files cannot be compared; the message names them and says what to do."""


class Compared(NamedTuple):
    """What `compare` found: a table with a row a figure (metric, the two names, difference, ahead), what was aligned,
    picture, run.
    """

    table: pd.DataFrame
    said: list
    figure: plt.Figure
    run_id: str
    store: str


def read_aligned(reference, a, b, mixture=None, names=("A", "B")):
    """(reference, a, b, mixture or None) as waves of one length at 22,050 Hz, and a list of what was done to make them
    so.

    Another rate is converted; up to 0.5 s more or less is cut; a shift of up to 0.1 s is taken back; all of it is said.
    A silent
    reference, an empty file, or lengths that differ by more are refused with `ComparisonError`.
    """
    paths = {"reference": reference, names[0]: a, names[1]: b, **({"mixture": mixture} if mixture else {})}
    waves, said = {}, []
    for name, path in paths.items():
        rate = _rate(path)
        waves[name] = audio.read(path, SR)
        if rate not in (None, SR):
            said.append(f"{name}: {rate} Hz converted to {SR} Hz")
    ref = waves["reference"]
    if audio.rms_db(ref) < -80:
        raise ComparisonError(
            f"{reference}: the reference is silent, so nothing can be compared with it. Is it the right file?"
        )
    for name, wave in waves.items():
        if abs(len(wave) - len(ref)) > ALIGNED * SR:
            raise ComparisonError(
                f"{paths[name]}: {len(wave) / SR:.2f} s, but the reference {reference} has {len(ref) / SR:.2f} s. Both"
                f" must be of one song from its start (up to {ALIGNED:g} s of difference is cut)."
            )
        if name not in ("reference", "mixture") and _inverted(wave, ref):
            said.append(f"{name}: its polarity is inverted, measured as it is")
        elif name not in ("reference", "mixture") and (late := _lateness(wave, ref)):
            waves[name] = np.roll(wave, -late)
            waves[name][-late if late > 0 else 0 : None if late > 0 else -late] = 0
            said.append(f"{name}: {abs(late) / SR * 1000:.1f} ms too {'late' if late > 0 else 'early'}, shifted back")
    samples = min(map(len, waves.values()))
    said += [
        f"{name}: cut by {(len(wave) - samples) / SR:.3f} s" for name, wave in waves.items() if len(wave) > samples
    ]
    return [waves[name][:samples] if name in waves else None for name in ("reference", *names, "mixture")], said


def _rate(path):
    try:
        return soundfile.info(str(path)).samplerate
    except soundfile.LibsndfileError:
        return None


def _lateness(est, ref):
    """Samples by which `est` is late, where shifting it back clearly helps, so that both correlate by `ALIKE` or more;
    else 0. By cross-correlation within 0.1 s.
    """
    found, shifts, here = _correlations(est, ref)
    best = int(shifts[np.argmax(found)])
    return best if found.max() > max(ALIKE, 1.1 * here) and abs(best) > 1 else 0


def _inverted(est, ref):
    """Whether `est` is more like `ref` turned around, by `ALIKE` or more, than like `ref` at any shift."""
    found, _, _ = _correlations(est, ref)
    return -found.min() > max(ALIKE, 1.1 * found.max())


def _correlations(est, ref):
    """Normalised correlations -1 to 1 of `est` with `ref` at shifts within 0.1 s, the shifts, and that at shift 0."""
    samples, reach = min(len(est), len(ref)), int(LATE * SR)
    size = 1 << int(np.ceil(np.log2(samples + reach)))
    across = np.fft.irfft(np.fft.rfft(est[:samples], size) * np.conj(np.fft.rfft(ref[:samples], size)), size)
    shifts = np.arange(-reach, reach + 1)
    norm = np.linalg.norm(est[:samples].astype(np.float64)) * np.linalg.norm(ref[:samples].astype(np.float64))
    found = across[shifts] / max(norm, 1e-12)
    return found, shifts, float(across[0] / max(norm, 1e-12))


def compare(reference, a, b, mixture=None, names=("A", "B"), parameters=None, store=STORE):
    """Measure two estimates (files) against a reference, log both into the experiment `Model_Comparison`, return
    `Compared`.

    mixture: the song they were taken from; with it, figures that need it are there too. parameters: dict name -> dict
    of what each was
    made with, logged beside. store: the folder of `mlflow.db`. Logged: parameters, metrics of both and their
    difference, `comparison_result.png`.
    """
    if len(set(names)) != 2 or {"reference", "mixture"} & set(names):
        raise ComparisonError(f"the two results need two names other than reference and mixture; got {names}.")
    (ref, *estimates, mix), said = read_aligned(reference, a, b, mixture, names)
    values = [figures(est, ref, mix) for est in estimates]
    table = pd.DataFrame(
        [
            {
                "metric": name,
                names[0]: values[0][name],
                names[1]: values[1][name],
                "difference": values[1][name] - values[0][name],
            }
            for name in values[0]
        ]
    )
    table["ahead"] = [_ahead(row.difference, names) for row in table.itertuples()]
    figure = picture(ref, dict(zip(names, estimates)))
    run_id, uri = _log(
        table, names, figure, said, parameters or {}, dict(reference=reference, **dict(zip(names, (a, b)))), Path(store)
    )
    return Compared(table, said, figure, run_id, uri)


def figures(est, ref, mix=None):
    """What both are measured by; without the mixture only what needs the reference alone."""
    row = {"global_sdr": evaluation.global_sdr(est, ref), "si_sdr": float(metrics.si_sdr(est, ref))}
    if mix is not None:
        whole = evaluation.measure(est, ref, mix, SR)
        row = {
            name: whole[name]
            for name in ("museval_sdr", "museval_sir", "museval_sar", "global_sdr", "si_sdr", "si_sdri", "quieter_db")
        }
    magnitudes = [_magnitude(wave) for wave in (est, ref)]
    return {
        **row,
        "spectrum_snr_db": (
            -20 * np.log10(np.mean(np.abs(magnitudes[0] - magnitudes[1])) / np.mean(magnitudes[1]) + 1e-9)
        ),
    }


def _ahead(difference, names):
    if not abs(difference) >= 0.005:  # also NaN
        return "even"
    return names[int(difference > 0)]  # higher is better in all of them


def verdict(compared):
    """Sentences: who is ahead by which figure and by how much, what was aligned, and how to look at it."""
    table, names = compared.table, list(compared.table.columns[1:3])
    lines = [
        (
            f"{row.ahead} is ahead by {abs(row.difference):.2f} dB in {row.metric}"
            if row.ahead != "even"
            else f"even in {row.metric}"
        )
        for row in table.itertuples()
    ]
    wins = {name: int((table["ahead"] == name).sum()) for name in names}
    first = max(wins, key=wins.get)
    lines.append(
        f"So {first} leads in {wins[first]} of {len(table)} figures."
        if len(set(wins.values())) > 1
        else "So neither leads."
    )
    lines += [f"Aligned: {what}." for what in compared.said]
    lines += ["To look at it, in the project's folder (then open http://127.0.0.1:5000):"]
    return "\n".join([*lines, f"  {ui_command(compared.store)}"])


def ui_command(uri):
    """The command that opens MLflow's pages on the store, with a path relative to the project where it lies inside."""
    place = Path(uri.removeprefix("sqlite:///"))
    shown = place.relative_to(ROOT) if place.is_relative_to(ROOT) else place
    return f"mlflow ui --backend-store-uri {shlex.quote(f'sqlite:///{shown.as_posix()}')}"


# --- the picture


def _magnitude(wave, n_fft=1024, hop=512):
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, n_fft // 2), n_fft)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(n_fft).astype(np.float32), axis=-1)).T


def picture(ref, estimates):
    """Three spectrograms (reference, A, B) on one dB scale, and below A and B the maps of their error against the
    reference.
    """
    spectra = {
        name: 20 * np.log10(np.maximum(_magnitude(wave), 1e-6))
        for name, wave in {"reference": ref, **estimates}.items()
    }
    top = max(values.max() for values in spectra.values())
    levels = {name: np.clip(values - top, FLOOR_DB, 0) for name, values in spectra.items()}
    figure, axes = plt.subplots(2, 3, figsize=(9, 4.4), dpi=75, sharex=True, sharey=True, layout="constrained")
    where = dict(origin="lower", aspect="auto", extent=(0, len(ref) / SR, 0, SR / 2000), interpolation="nearest")
    for axis, (name, values) in zip(axes[0], levels.items()):
        shown = axis.imshow(values, cmap=plt.get_cmap("magma", 20), vmin=FLOOR_DB, vmax=0, **where)
        axis.set_title(name, fontsize=9)
    for axis, name in zip(axes[1, 1:], estimates):
        error = axis.imshow(
            levels[name] - levels["reference"], cmap=plt.get_cmap("RdBu_r", 21), vmin=-30, vmax=30, **where
        )
        axis.set_title(f"{name}: red too much, blue too little", fontsize=8)
    axes[1, 0].axis("off")
    figure.colorbar(shown, ax=axes[0].tolist(), pad=0.01).set_label("dB re loudest bin", fontsize=8)
    figure.colorbar(error, ax=axes[1].tolist(), pad=0.01).set_label("error (dB)", fontsize=8)
    figure.supxlabel("time (s)", fontsize=8)
    figure.supylabel("frequency (kHz)", fontsize=8)
    plt.close(figure)
    return figure


# --- MLflow


def store_uri(folder=STORE):
    """The address of the sqlite store that training runs log to as well."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{(Path(folder).resolve() / 'mlflow.db').as_posix()}"


def _log(table, names, figure, said, parameters, files, store):
    with extras():
        import mlflow

    uri = store_uri(store)
    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = (
        found.experiment_id
        if found
        else client.create_experiment(EXPERIMENT, artifact_location=(Path(store).resolve() / "mlflow").as_uri())
    )
    run = client.create_run(experiment, run_name=f"{names[0]} against {names[1]}").info.run_id
    for name, path in files.items():
        client.log_param(run, f"file_{_plain(name)}", Path(path).name)
    for name, chosen in parameters.items():
        for key, value in chosen.items():
            client.log_param(run, f"{_plain(name)}.{_plain(key)}", str(value)[:500])
    client.set_tag(run, "aligned", "; ".join(said) or "nothing had to be")
    for row in table.to_dict("records"):
        for column in (*names, "difference"):
            if np.isfinite(row[column]):
                client.log_metric(run, f"{row['metric']}.{_plain(column)}", float(row[column]))
    with tempfile.TemporaryDirectory() as folder:
        figure.savefig(Path(folder) / "comparison_result.png")
        client.log_artifact(run, str(Path(folder) / "comparison_result.png"))
    client.set_terminated(run)
    return run, uri


def _plain(name):
    """MLflow takes letters, digits and a few signs in names."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in str(name))


def runs_logged(store=STORE):
    """What the store holds, a row a run: experiment, run, status; training runs among them."""
    with extras():
        import mlflow

    client = mlflow.MlflowClient(tracking_uri=store_uri(store))
    return pd.DataFrame(
        [
            dict(
                experiment=experiment.name, run=run.info.run_name, status=run.info.status, metrics=len(run.data.metrics)
            )
            for experiment in client.search_experiments()
            for run in client.search_runs([experiment.experiment_id])
        ],
        columns=["experiment", "run", "status", "metrics"],
    )


def main(arguments=None):
    """Compare two files with a reference and print the verdict."""
    parser = argparse.ArgumentParser(description="Compare two estimates with a reference and log them with MLflow.")
    for name in ("reference", "a", "b"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--mixture", type=Path)
    parser.add_argument("--names", nargs=2, default=("A", "B"))
    parser.add_argument("--store", type=Path, default=STORE)
    options = parser.parse_args(arguments)
    try:
        print(
            verdict(
                compare(
                    options.reference, options.a, options.b, options.mixture, tuple(options.names), store=options.store
                )
            )
        )
    except ValueError as error:
        raise SystemExit(f"This does not work: {error}") from None


if __name__ == "__main__":
    main()
