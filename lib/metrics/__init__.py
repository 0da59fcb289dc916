"""How good an estimate is: against the reference, without one, and against the enrollment; what many numbers say
together stands in `statistics`, and is reached from here too.

Waves are float32 in [-1, 1] at 16 kHz; arguments come as `(est, ref)`. `si_sdr` and `sdr` work on numpy or torch over
the last axis, in dB, higher is better; the others take one wave `(samples,)`.

The rule for silence. A silent *reference* has no ratio to compare with: NaN. A silent *estimate* gets the worst value
there is: -60 dB (`FLOOR_DB`), PESQ 1, ESTOI 0, similarity 0. So a system that answers with silence is counted, and
counted as bad.
"""

import contextlib
import functools
import hashlib
import threading
import warnings

import numpy as np
import torch

from lib import audio
from lib.metrics import apart
from lib.metrics.statistics import (
    Interval,
    PairedTest,
    bootstrap_interval,
    paired_test,
    people_interval,
    shares,
)

__all__ = [
    "Interval",
    "PairedTest",
    "bootstrap_interval",
    "dnsmos",
    "estoi",
    "paired_test",
    "people_interval",
    "pesq_wb",
    "sdr",
    "sdri",
    "shares",
    "si_sdr",
    "si_sdri",
    "similarity",
    "voice_embedding",
]

SR = 16000  # Hz; PESQ in wide band, DNSMOS and the speaker encoder are defined at this rate
FLOOR_DB, CEILING_DB = -60.0, 100.0  # ratios are kept within these: one silent estimate makes no mean infinite
SILENT_POWER = 1e-20  # mean power (-200 dBFS) below which only rounding is left
TOO_SHORT_FOR_STOI = 1e-5  # what pystoi returns for too few frames with speech: it would read like a bad score
PESQ_WINDOW = 16  # s: at most 40 utterances, each with its pause of at least 0.4 s
HEARD, _HEARD = 4096, {}  # embeddings of voices that are kept, 1 KB each; hash of a wave -> its embedding
ENCODER_LOCK = threading.Lock()  # the number of threads is the process's, so one at a time changes it
SDR_DIAGONAL = 1e-10  # added to the diagonal of the system of the filter: a pure tone has no single solution
SDR_TAPS = 512  # length of the distortion filter that BSS Eval forgives


def si_sdr(est, ref):
    """Scale-invariant signal-to-distortion ratio in dB over the last axis, both waves made zero-mean first.

    est, ref: numpy or torch `(..., samples)` of one shape; returns `(...)` of the same library, computed in double
    precision and kept within -60 and 100 dB. Silence: see the module. Raises ValueError for unequal shapes, no samples,
    or NaN among them.
    Source: Le Roux et al., "SDR - half-baked or well done?", arXiv 1811.02508.
    """
    est, ref, back = _pair(est, ref)
    est, ref = est - est.mean(-1, keepdim=True), ref - ref.mean(-1, keepdim=True)
    wanted = (est * ref).sum(-1, keepdim=True) / ref.square().sum(-1, keepdim=True) * ref
    ratio = 10 * torch.log10(wanted.square().sum(-1) / (est - wanted).square().sum(-1))
    return back(_limit(ratio, est, ref))


def si_sdri(est, ref, mix):
    """Improvement of SI-SDR over the mixture in dB: `si_sdr(est, ref) - si_sdr(mix, ref)`. Shapes and silence as in
    `si_sdr`.
    """
    return si_sdr(est, ref) - si_sdr(mix, ref)


def sdr(est, ref):
    """Signal-to-distortion ratio of BSS Eval in dB over the last axis: a distortion by any filter of 512 taps is
    forgiven.

    Arguments, errors and silence as in `si_sdr`, but the mean is left in, as BSS Eval does. Sources: Vincent et al.,
    IEEE TASLP 14(4), 2006; computed by fast_bss_eval (Scheibler, arXiv 2110.06440).
    """
    import fast_bss_eval

    est, ref, back = _pair(est, ref)
    usable = (_power(ref) > SILENT_POWER) & (_power(est) > SILENT_POWER)
    filler = torch.randn(ref.shape[-1], generator=torch.Generator().manual_seed(0)).to(
        ref
    )  # stands in where the rule below decides
    safe = [torch.where(usable[..., None], wave, filler) for wave in (est, ref)]
    ratio = -fast_bss_eval.sdr_loss(*safe, filter_length=SDR_TAPS, load_diag=SDR_DIAGONAL, pairwise=False)
    return back(_limit(ratio, est, ref))


def sdri(est, ref, mix):
    """Improvement of `sdr` over the mixture in dB."""
    return sdr(est, ref) - sdr(mix, ref)


def pesq_wb(est, ref, sr=SR):
    """PESQ in wide band, MOS-LQO from 1 (bad) to 4.64: how a listener would rate `est` `(samples,)` against `ref`.

    Source: ITU-T P.862.2 by the package pesq. Its code has room for 50 utterances and ends the process beyond, so waves
    over 16 s are scored in equal windows of at most that, and the mean over those with speech is returned. It runs in a
    process of its own (`lib.metrics.apart`): where the code ends that, NaN comes, and a warning. Silence: NaN for a
    silent reference or one without speech, 1 for a silent estimate.
    Raises ValueError for another rate than 16 kHz, unequal shapes, or waves under a quarter of a second.
    """
    est, ref = _waves(est, ref, sr, "PESQ")
    if est.shape[-1] < SR // 4:
        raise ValueError(f"PESQ needs at least 0.25 s ({SR // 4} samples); got {est.shape[-1]}.")
    if _silent(ref):
        return float("nan")
    if _silent(est):
        return 1.0
    windows = -(-len(ref) // (PESQ_WINDOW * SR))
    scores = [_pesq_of(*pair) for pair in zip(np.array_split(est, windows), np.array_split(ref, windows))]
    known = [score for score in scores if not np.isnan(score)]
    return float(np.mean(known)) if known else float("nan")


def _pesq_of(est, ref):
    import pesq

    if _silent(ref):
        return float("nan")
    if _silent(est):
        return 1.0
    est, ref = (wave / np.abs(wave).max() for wave in (est, ref))  # to full scale: PESQ does not hear the level
    try:
        return float(apart.call("pesq.pesq", SR, ref, est, "wb"))
    except (pesq.NoUtterancesError, ZeroDivisionError):  # nothing in the reference that PESQ takes for speech
        return float("nan")
    except apart.Ended as error:
        warnings.warn(f"PESQ has no value for a pair of {len(ref) / SR:.1f} s: {error}.", stacklevel=3)
        return float("nan")


def estoi(est, ref, sr=SR):
    """Extended short-time objective intelligibility, up to 1: how well `est` `(samples,)` would be understood.

    Source: Jensen and Taal, IEEE TASLP 24(11), 2016, by the package pystoi. Silence: NaN for the reference, 0 for the
    estimate; NaN where the reference has less than 0.4 s of speech. Raises ValueError for another rate than 16 kHz or
    unequal shapes.
    """
    import pystoi

    est, ref = _waves(est, ref, sr, "ESTOI")
    if _silent(ref):
        return float("nan")
    if _silent(est):
        return 0.0
    if len(ref) < SR // 4:  # too little for pystoi's 30 frames, and below one of them it stops
        return float("nan")
    score = float(pystoi.stoi(ref, est, sr, extended=True))
    return float("nan") if score == TOO_SHORT_FOR_STOI else score


def dnsmos(est, sr=SR):
    """DNSMOS P.835 without a reference: dict of `sig` (speech), `bak` (background), `ovrl` and `p808`, MOS 1 (bad) to
    5.

    `est`: `(samples,)`; under 9 s it is repeated, over that averaged over windows. Turned down where it exceeds full
    scale.
    Source: Reddy et al., arXiv 2110.01763, models and code of the package speechmos (nothing is downloaded). Silence is
    rated by
    the model like any sound: look at it together with a metric that has a reference. About 0.2 s a wave of 5 s on one
    core.
    """
    est, _ = _waves(est, est, sr, "DNSMOS")
    scores = _dnsmos_model()(est / max(1.0, np.abs(est).max()), sr, False)
    return {name: float(scores[f"{name}_mos"]) for name in ("sig", "bak", "ovrl", "p808")}


def similarity(est, enrollment, sr=SR, embedded=None):
    """Cosine, 0 to 1, between the voices in `est` and `enrollment` `(samples,)`, as the speaker encoder Resemblyzer
    hears them.

    Clean speech of this project's Test voices: 0.88 for one person (0.80 to 0.91 in 80 % of pairs), 0.56 for two (0.47
    to 0.72).
    `embedded`: the enrollment's `voice_embedding`, where it is at hand. Silence: NaN for the enrollment, 0 for the
    estimate.
    Source: Wan et al., arXiv 1710.10467, weights that come with the package resemblyzer.
    """
    _check_rate(sr, "the speaker encoder")
    est, enrollment = (_one_wave(wave, "the speaker encoder") for wave in (est, enrollment))
    if _silent(enrollment):
        return float("nan")
    if _silent(est):
        return 0.0
    return float(voice_embedding(est) @ (voice_embedding(enrollment) if embedded is None else embedded))


def voice_embedding(wave):
    """Resemblyzer's embedding `(256,)` of `wave` `(samples,)` at 16 kHz, of length 1; the wave is brought to -30 dBFS
    first. A wave heard before is not heard again: an enrollment is asked for with many estimates.
    """
    wave = _one_wave(wave, "the speaker encoder")
    key = hashlib.blake2b(wave.tobytes(), digest_size=16).digest()
    found = _HEARD.get(key)  # other threads may empty it meanwhile
    if found is None:
        encoder = _voice_encoder()
        with ENCODER_LOCK, one_thread():
            found = encoder.embed_utterance(audio.set_level(wave, -30.0))
        found.flags.writeable = False  # it is handed out again
        if len(_HEARD) >= HEARD:
            _HEARD.clear()
        _HEARD[key] = found
    return found


@contextlib.contextmanager
def one_thread():
    """PyTorch on one thread meanwhile: an LSTM over 160 steps gains nothing from more, and on a busy machine they wait
    for each other.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pair(est, ref):
    """Both waves as double tensors, and a function that gives a result back in the library it came from."""
    torch_in = isinstance(est, torch.Tensor)
    est, ref = (
        wave if isinstance(wave, torch.Tensor) else torch.from_numpy(np.array(wave, dtype=np.float64))
        for wave in (est, ref)
    )
    if est.shape != ref.shape or not est.dim() or not est.shape[-1]:
        raise ValueError(
            f"est and ref must have one shape (..., samples); got {tuple(est.shape)} and {tuple(ref.shape)}."
        )
    if not (torch.isfinite(est).all() and torch.isfinite(ref).all()):
        raise ValueError("est or ref holds NaN or infinite samples; they have no ratio in dB.")
    est, ref = (
        wave.cpu() if wave.device.type == "mps" else wave for wave in (est, ref)
    )  # Apple GPUs have no double precision
    return est.double(), ref.double(), (lambda result: result if torch_in else result.detach().numpy()[()])


def _power(wave):
    return (wave - wave.mean(-1, keepdim=True)).square().mean(-1)


def _limit(ratio, est, ref):
    """Apply the rule for silence and the bounds to `ratio` in dB."""
    ratio = torch.where(_power(est) > SILENT_POWER, ratio.clamp(FLOOR_DB, CEILING_DB), FLOOR_DB)
    return torch.where(_power(ref) > SILENT_POWER, ratio, torch.nan)


def _numpy(wave):
    wave = wave.detach().cpu().numpy() if isinstance(wave, torch.Tensor) else np.asarray(wave)
    return wave.astype(np.float32, copy=False)


def _check_rate(sr, who):
    if sr != SR:
        raise ValueError(f"{who} works at {SR} Hz; got {sr} Hz. Resample with lib.audio.resample first.")


def _one_wave(wave, who):
    wave = _numpy(wave)
    if wave.ndim != 1 or not np.isfinite(wave).all():
        raise ValueError(f"{who} takes a wave (samples,) of finite numbers; got {wave.shape}, or NaN in it.")
    return wave


def _waves(est, ref, sr, who):
    _check_rate(sr, who)
    est, ref = _numpy(est), _numpy(ref)
    if not (np.isfinite(est).all() and np.isfinite(ref).all()):
        raise ValueError(f"{who}: a wave holds NaN or infinite samples.")
    if est.ndim != 1 or est.shape != ref.shape or not est.size:
        raise ValueError(f"{who} takes waves (samples,) of one length over 0; got {est.shape} and {ref.shape}.")
    return est, ref


def _silent(wave):
    return not wave.size or float(np.var(wave, dtype=np.float64)) <= SILENT_POWER


@functools.cache
def _dnsmos_model():
    """speechmos' DNSMOS with sessions of one thread each: the default takes every core for itself."""
    import os

    import onnxruntime
    from speechmos import dnsmos as package

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    folder = os.path.join(os.path.dirname(package.__file__), "dnsmos_models")
    model = package.DNSMOS.__new__(package.DNSMOS)  # its __init__ takes no options
    model.onnx_sess, model.p808_onnx_sess = (
        onnxruntime.InferenceSession(os.path.join(folder, name), options, providers=["CPUExecutionProvider"])
        for name in ("sig_bak_ovr.onnx", "model_v8.onnx")
    )
    return model


@functools.cache
def _voice_encoder():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # webrtcvad, which it imports, warns about pkg_resources
        from resemblyzer import VoiceEncoder

    return VoiceEncoder("cpu", verbose=False)
