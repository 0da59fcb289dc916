"""Is the wanted person there, where, and how sure is that? Judged from the estimate and the enrollment.

The estimate is looked at in windows of 1.6 s, one every 0.8 s. How sure a window is of the person is the cosine between
its embedding and the enrollment's (Resemblyzer; Wan et al., arXiv 1710.10467). An extractor always extracts somebody,
so similarity must decide: the best windows of a recording must reach a threshold, or the person is not there at all;
and a window holds the person where it does not fall far below the best ones, which are as good as this person sounds in
this recording. Both numbers are measured on Val voices, as chapter 3 measures similarity, by
`python -m lib.evaluation.thresholds`, which also says how often they err on Test voices. Waves are float32 `(samples,)`
at 16 kHz.
"""

import math

import numpy as np
import torch

from lib import audio
from lib.backbones import backbone

SR = 16000
WINDOW, HOP = 25600, 12800  # samples: 1.6 s, which Resemblyzer was trained on, every 0.8 s
FRAME = 1600  # samples: turns begin and end on a grid of 0.1 s
FALL = 0.19  # a window at most so far below the best ones holds the person: both errors are about equal there on Val
SOMEWHERE = 0.78  # where the person speaks at all the best windows reach this on average: 0.04 under the lowest of Val
BEST, BEST_SHARE = 3, 0.005  # how many the best windows are: three, of long recordings this share
QUIET_DB = -60.0  # dBFS: a window fainter than this is nobody, and no time is spent on it
UNDER_DB = 25.0  # a frame of the estimate so far under its loud ones is a pause
GAP, SHORTEST = 5, 3  # frames: a shorter pause does not end a turn, a shorter turn is none


class Presence:
    """Listens to mixture and estimate, block by block, and says where the person was heard.

    `similarities` `(windows,)`, one every `hop` samples; `mix_db` and `est_db` `(frames,)`, levels every 0.1 s in dBFS.
    `passed`: which frames a place's own gate lets through, `(frames,)` of bool, where there is one: it decides then.
    """

    passed = None

    def __init__(self, enrollment, batch=32, hop=HOP):
        self.hop = hop
        self.encoder, self.batch, self._rest = backbone("resemblyzer"), batch, np.zeros((2, 0), np.float32)
        self._waiting, self._similarities, self._levels, self._samples = np.zeros(0, np.float32), [], [], 0
        enrollment = np.tile(enrollment, math.ceil(WINDOW / len(enrollment)))
        own = self._embed(np.lib.stride_tricks.sliding_window_view(enrollment, WINDOW)[::HOP]).mean(0)
        self.own = own / np.linalg.norm(own)

    def _embed(self, windows):
        """`(windows, samples)` -> `(windows, 256)`, each of length 1."""
        with torch.inference_mode():
            groups = torch.from_numpy(np.ascontiguousarray(windows)).split(self.batch)
            return torch.cat([self.encoder(group) for group in groups]).numpy()

    def hear(self, mix, est, last=False):
        """Take the next stretch of both, `(samples,)` each; at the end once more with `last`."""
        both = np.concatenate([self._rest, [mix, est]], axis=1)
        self._samples += len(est)
        if last:
            both = np.pad(both, ((0, 0), (0, -both.shape[1] % FRAME)))
        whole = both.shape[1] // FRAME * FRAME
        self._rest = both[:, whole:]
        self._levels.append(audio.rms_db(both[:, :whole].reshape(2, -1, FRAME)))
        self._waiting = np.concatenate([self._waiting, both[1, :whole]])
        if last and (len(self._waiting) > WINDOW - self.hop or not self._similarities):
            missing = max(WINDOW - len(self._waiting), -(len(self._waiting) - WINDOW) % self.hop)
            self._waiting = np.pad(self._waiting, (0, missing))
        if len(self._waiting) >= WINDOW:
            windows = np.lib.stride_tricks.sliding_window_view(self._waiting, WINDOW)[:: self.hop]
            self._waiting = self._waiting[len(windows) * self.hop :]
            sounding = audio.rms_db(windows) > QUIET_DB
            found = np.zeros(len(windows))
            if sounding.any():
                found[sounding] = self._embed(windows[sounding]) @ self.own
            self._similarities.append(found)

    @property
    def similarities(self):
        return np.concatenate([np.zeros(0), *self._similarities])

    @property
    def mix_db(self):
        return np.concatenate(self._levels, axis=1)[0]

    @property
    def est_db(self):
        return np.concatenate(self._levels, axis=1)[1]

    @property
    def levels(self):
        """The estimate's level over the mixture's in each window, dB `(windows,)`."""
        mix, est = 10 ** (np.concatenate(self._levels, axis=1) / 10)
        starts = np.arange(len(self.similarities)) * self.hop // FRAME
        sums = [[power[start : start + WINDOW // FRAME].sum() for start in starts] for power in (est, mix)]
        return 10 * np.log10((np.array(sums[0]) + 1e-12) / (np.array(sums[1]) + 1e-12))

    @property
    def best(self):
        """The mean similarity of the best windows: high where the person speaks anywhere, however little."""
        found = np.sort(self.similarities)
        return float(found[-max(BEST, int(BEST_SHARE * len(found))) :].mean())

    @property
    def there(self):
        """Whether the person seems to speak anywhere in the recording."""
        return self.best >= SOMEWHERE if self.passed is None else bool(self.passed.any())

    @property
    def threshold(self):
        """The similarity from which on a window holds the person."""
        return self.best - FALL

    def frames(self):
        """Which frames of 0.1 s hold the person, `(frames,)` of bool."""
        if self.passed is not None:
            return self.passed
        est, found = self.est_db, self.similarities
        centres = (np.arange(len(found)) * self.hop + WINDOW / 2) / FRAME
        sure = np.interp(np.arange(len(est)) + 0.5, centres, found) >= self.threshold
        if not sure.any():
            return sure
        active = sure & (est > np.percentile(est[sure], 95) - UNDER_DB) & (est > QUIET_DB)
        return without_short(~without_short(~active, GAP), SHORTEST)

    def turns(self):
        """Where the person was heard: a list of `(start, end)` in seconds; empty where they seem not to be there."""
        if not self.there:
            return []
        end = self._samples  # the last frame may be begun only
        return [(start * FRAME / SR, min(stop * FRAME, end) / SR) for start, stop in stretches(self.frames())]


def stretches(active):
    """`(start, end)` of each run of True in `active` `(frames,)`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(int)))
    return [tuple(map(int, pair)) for pair in edges.reshape(-1, 2)]


def without_short(active, fewest):
    """`active` without its runs shorter than `fewest` frames."""
    out = active.copy()
    for start, end in stretches(active):
        if end - start < fewest:
            out[start:end] = False
    return out


def verdict(presence):
    """One sentence: how long the person was heard and how sure that is, or that they seem not to be there."""
    if presence.passed is None:
        measure = f"similarity of the best stretches to the enrollment {presence.best:.2f}, from {SOMEWHERE:.2f} on it"
        measure += " counts"
    else:
        measure = "by the gate that was calibrated for the model's place, which lets through some of what others say"
    if not presence.there:
        return (
            f"The enrolled person seems not to be in this recording ({measure}). A cheap or distant microphone makes a"
            " voice harder to recognise: listen before you believe it."
        )
    turns = presence.turns()
    heard = sum(end - start for start, end in turns)
    return f"The person was heard for {clock(heard)} in {len(turns)} turn{'s' * (len(turns) != 1)} ({measure})."


def clock(seconds):
    """Seconds as people write them: 7.5 s, 4:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def rttm(presence, uri, speaker="person"):
    """The turns as the text of an RTTM file (NIST's RT-09 evaluation plan), one recording, one speaker."""
    uri = "_".join(uri.split()) or "recording"  # fields are parted by blanks
    return "".join(
        f"SPEAKER {uri} 1 {start:.3f} {end - start:.3f} <NA> <NA> {speaker} <NA> <NA>\n"
        for start, end in presence.turns()
    )


def picture(presence, title=""):
    """The timeline as a matplotlib figure: levels of mixture and estimate, how sure each window is, the turns."""
    import matplotlib.pyplot as plt

    mix, est, found = presence.mix_db, presence.est_db, presence.similarities
    unit, name = (60.0, "min") if len(mix) * FRAME / SR > 180 else (1.0, "s")
    time = (np.arange(len(mix)) + 0.5) * FRAME / SR / unit
    figure, (above, below) = plt.subplots(2, 1, figsize=(10, 4), dpi=100, sharex=True, layout="constrained")
    above.fill_between(time, -90, mix, color="0.8", label="mixture")
    above.fill_between(time, -90, est, color="tab:blue", alpha=0.7, label="what came out")
    above.set(ylim=(max(-90, min(mix.max(), -20) - 60), 0), ylabel="level (dBFS)", title=title)
    below.plot(
        (np.arange(len(found)) * presence.hop + WINDOW / 2) / SR / unit,
        found,
        color="tab:blue",
        lw=1,
        label="similarity",
    )
    if presence.passed is None:  # a place's own gate goes by the level too
        limit = presence.threshold if presence.there else SOMEWHERE
        below.axhline(limit, color="tab:red", ls="--", lw=1, label=f"threshold {limit:.2f}")
    spans = [(start / unit, (end - start) / unit) for start, end in presence.turns()]
    below.broken_barh(spans, (0.0, 0.12), color="tab:green", label="heard")
    below.set(ylim=(0, 1), ylabel="similarity", xlabel=f"time ({name})", xlim=(0, len(mix) * FRAME / SR / unit))
    for axis in (above, below):
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, frameon=False)
    plt.close(figure)
    return figure
