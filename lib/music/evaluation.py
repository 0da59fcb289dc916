"""How well a stem was separated: a row a song and system, each figure labelled by its definition, with floor, ceiling
and a reading guide.

Waves are float32 mono `(samples,)` at one rate. Arguments come as `(est, ref)`; dB, higher is better unless said.
"""

import importlib.util
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import audio, metrics
from lib.music import separation, songs as readers

DEFINITIONS = {
    "museval_sdr": (
        "BSS Eval v4 (museval): SDR of frames of 1 s, median over those with sound; a filter of 512 taps is forgiven."
        " The field's convention"
    ),
    "museval_sir": "the same, interference alone: how much of the other stems is left",
    "museval_sar": "the same, artefacts alone: what belongs to no stem",
    "global_sdr": "10 log10 of the reference's energy over the error's, whole song at once; nothing is forgiven",
    "si_sdr": "scale-invariant SDR, whole song at once",
    "si_sdri": "the same, minus that of the mixture",
    "quieter_db": "where the target is silent: how much quieter than the mixture the estimate is",
    "drums_left": (
        "where the target is heard: share of the drums' energy that the estimate lets through, 0 to 1; lower is better"
    ),
}
GUIDE = (
    (0.0, "failed"),
    (3.0, "poor"),
    (5.0, "fair"),
    (7.0, "good"),
)  # museval SDR under which it is called so; above: excellent
GUIDE_NOTE = {"fair": "from 4 dB and with a clear voice, basic training succeeded", "good": "the first goal"}
PUBLISHED = {
    "Spleeter": 6.55,
    "Open-Unmix": 6.32,
    "UMXL": 7.21,
    "BS-RoFormer": 11.08,
}  # vocals, museval SDR on MUSDB18: sung, other data
FRAME = 0.1  # s
SILENT_DB, HEARD_DB = -60.0, -40.0  # dBFS of a frame of the reference that counts as silent, as heard


def grade(sdr):
    """The reading guide's word for a museval SDR in dB."""
    return "no value" if np.isnan(sdr) else next((word for bound, word in GUIDE if sdr < bound), "excellent")


def bss_eval(est, ref, est_rest, ref_rest, sr):
    """(SDR, SIR, SAR) of museval for the target: medians over frames of 1 s. NaN where no frame has both stems and both
    estimates.
    """
    frames = _museval().bss_eval(
        np.stack([ref, ref_rest])[..., None], np.stack([est, est_rest])[..., None], window=sr, hop=sr
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all frames NaN: the median is NaN, which is the answer
        return tuple(float(np.nanmedian(frames[k][0])) for k in (0, 2, 3))


def _museval():
    """museval's metrics alone: the package itself imports stempeg, which refuses to load where ffmpeg's programs are
    not installed.
    """
    if "museval.metrics" in sys.modules:
        return sys.modules["museval.metrics"]
    package = importlib.util.find_spec("museval")
    if package is None:
        raise ImportError("museval is not installed: pip install -r requirements-extras.txt")
    spec = importlib.util.spec_from_file_location("museval.metrics", Path(package.origin).with_name("metrics.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["museval.metrics"] = module
    return module


def global_sdr(est, ref):
    """10 log10 of the energy of `ref` over that of `est - ref`, dB; kept within -60 and 100, NaN for a silent
    reference.
    """
    signal, error = (
        float(np.square(ref, dtype=np.float64).sum()),
        float(np.square(np.subtract(est, ref, dtype=np.float64)).sum()),
    )
    return (
        float("nan")
        if signal <= 0
        else float(np.clip(10 * np.log10(signal / max(error, 1e-30)), metrics.FLOOR_DB, metrics.CEILING_DB))
    )


def quieter_where_silent(est, ref, mix, sr):
    """By how many dB `est` is quieter than `mix` over the frames where `ref` is silent and the mixture is not; NaN
    where there are none.
    """
    est, ref, mix = (_frames(wave, sr) for wave in (est, ref, mix))
    where = (audio.rms_db(ref) < SILENT_DB) & (audio.rms_db(mix) > SILENT_DB)
    return float(audio.rms_db(mix[where].ravel()) - audio.rms_db(est[where].ravel())) if where.any() else float("nan")


def drums_left(est, ref, mix, drums, sr, n_fft=1024, hop=256):
    """Share of the energy of `drums` that gets through the mask |estimate| / |mixture| where `ref` is heard; NaN where
    they never meet.
    """
    window = torch.hann_window(n_fft)
    spectra = [
        torch.stft(torch.from_numpy(np.asarray(wave, np.float32)), n_fft, hop, window=window, return_complex=True)
        .abs()
        .numpy()
        for wave in (est, mix, drums)
    ]
    heard = np.repeat(audio.rms_db(_frames(ref, sr)) > HEARD_DB, int(FRAME * sr))
    heard = heard[np.minimum(np.arange(spectra[0].shape[1]) * hop, len(heard) - 1)]
    power = np.square(spectra[2][:, heard])
    mask = np.clip(spectra[0][:, heard] / np.maximum(spectra[1][:, heard], 1e-8), 0, 1)
    return float((np.square(mask) * power).sum() / power.sum()) if power.sum() > 1e-6 else float("nan")


def _frames(wave, sr):
    size = int(FRAME * sr)
    return wave[: len(wave) // size * size].reshape(-1, size)


def ideal_ratio_mask(mix, ref, n_fft=1024, hop=256):
    """The ceiling of any mask on magnitudes that keeps the mixture's phase: |target| / (|target| + |rest|), known from
    the references.
    """
    window = torch.hann_window(n_fft)
    mixture, target, rest = (
        torch.stft(torch.from_numpy(np.asarray(wave, np.float32)), n_fft, hop, window=window, return_complex=True)
        for wave in (mix, ref, mix - ref)
    )
    mask = target.abs() / (target.abs() + rest.abs() + 1e-8)
    return torch.istft(mixture * mask, n_fft, hop, window=window, length=len(mix)).numpy()


def measure(est, ref, mix, sr, drums=None, rest=None):
    """All figures of one estimate: a dict with the names of `DEFINITIONS`. rest: the estimate of everything else,
    default `mix - est`.
    """
    if not len(est) == len(ref) == len(mix):
        raise ValueError(
            f"estimate, reference and mixture must be equally long; got {len(est)}, {len(ref)} and {len(mix)} samples"
        )
    sdr, sir, sar = bss_eval(est, ref, mix - est if rest is None else rest, mix - ref, sr)
    return dict(
        museval_sdr=sdr,
        museval_sir=sir,
        museval_sar=sar,
        global_sdr=global_sdr(est, ref),
        si_sdr=float(metrics.si_sdr(est, ref)),
        si_sdri=float(metrics.si_sdri(est, ref, mix)),
        quieter_db=quieter_where_silent(est, ref, mix, sr),
        drums_left=float("nan") if drums is None else drums_left(est, ref, mix, drums, sr),
    )


def score(models, songs, seconds=None, baselines=True, progress=True):
    """A row a song and system. models: a `CRNN` or a dict name -> `CRNN` of one target; seconds: only so much of each
    song, from its middle.

    baselines: also the mixture as its own estimate, and the ideal ratio mask. Columns: song, system, the names of
    `DEFINITIONS`, grade,
    seconds (of computing, of the models), audio_seconds.
    """
    from tqdm.auto import tqdm

    models, rows = models if isinstance(models, dict) else {"CRNN": models}, []
    config = next(iter(models.values())).config
    for song in tqdm(songs, desc="scoring songs", disable=not progress):
        length = song.seconds()
        where = {} if seconds is None or seconds >= length else dict(start=(length - seconds) / 2, seconds=seconds)
        mix, ref = (song.read(stem, sr=config.sample_rate, **where) for stem in ("mixture", config.target))
        drums = (
            song.read("drums", sr=config.sample_rate, **where)
            if "drums" in song.stems and config.target != "drums"
            else None
        )
        rows += score_waves(models, mix, ref, drums, song.name, baselines)
    return pd.DataFrame(rows)


def score_waves(models, mix, ref, drums, name, baselines=True):
    """The rows of one song, whose waves are at the models' rate; see `score`."""
    sr, rows = next(iter(models.values())).config.sample_rate, []
    estimates = {"mixture": (mix, mix, np.nan)} if baselines else {}
    for system, model in models.items():
        started = time.perf_counter()
        est = separation.separate_wave(model, mix, sr)[1]
        estimates[system] = (est, None, time.perf_counter() - started)
    if baselines:
        estimates["ideal ratio mask"] = (ideal_ratio_mask(mix, ref), None, np.nan)
    for system, (est, rest, took) in estimates.items():
        row = measure(est, ref, mix, sr, drums, rest)
        rows.append(
            {
                "song": name,
                "system": system,
                **row,
                "grade": grade(row["museval_sdr"]),
                "seconds": took,
                "audio_seconds": len(mix) / sr,
            }
        )
    return rows


def summarise(table):
    """A row a system: songs, the median over songs of museval's figures (the field's convention), the mean of the
    others, a word, rtf.
    """
    rows = []
    for system, part in table.groupby("system", sort=False):
        row = {"system": system, "songs": len(part)}
        for name in DEFINITIONS:
            row[name] = part[name].median() if name.startswith("museval") else part[name].mean()
        rows.append(
            {
                **row,
                "grade": grade(row["museval_sdr"]),
                "rtf": part["seconds"].sum(min_count=1) / part["audio_seconds"].sum(),
            }
        )
    return pd.DataFrame(rows)


def median_interval(values, seed=0, level=0.95, draws=5000):
    """(low, high): percentile bootstrap of the median of `values` `(songs,)`, what it would be on other songs of the
    kind.
    """
    values = np.asarray(values, dtype=float)
    picks = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    return tuple(np.quantile(np.median(values[picks], axis=1), [(1 - level) / 2, (1 + level) / 2]).tolist())


# --- the one real excerpt


def real_excerpt(sr=readers.SR):
    """A few seconds of a real, sung song in stems that the package stempeg carries: (title, dict stem -> `(samples,)`,
    mixture among them).
    """
    found = importlib.util.find_spec("stempeg")
    files = sorted((Path(found.origin).parent / "data").glob("*.stem.mp4")) if found else []
    if not files:
        raise readers.SongError(
            "the package stempeg, which carries a real excerpt in stems, is not installed: pip install -r"
            " requirements-extras.txt"
        )
    return files[0].name.removesuffix(".stem.mp4"), read_stem_file(files[0], sr)


def read_stem_file(path, sr=readers.SR):
    """The stems of a `.stem.mp4` file, as MUSDB18 (not HQ) comes: dict mixture, drums, bass, other, vocals -> mono
    `(samples,)` at `sr`.
    """
    import av

    waves = []
    for number in range(5):
        with av.open(str(path)) as container:
            stream = container.streams.audio[number]
            resampler = av.AudioResampler(format="fltp")
            pieces = [out.to_ndarray() for frame in container.decode(stream) for out in resampler.resample(frame)]
            waves.append(audio.resample(np.concatenate(pieces, axis=1).mean(0), stream.codec_context.sample_rate, sr))
    samples = min(map(len, waves))
    return dict(zip(("mixture", "drums", "bass", "other", "vocals"), (wave[:samples] for wave in waves)))
