"""What a leak does to a result: one question about the Test people, put to two recognisers of voices.

Both are the same small network, trained the same way to tell as many people apart. One has met the Test people in
training (saying other things than it is asked about), the other has not. Waves are float32 `(samples,)` at 16 kHz.
"""

import numpy as np
import pandas as pd
import torch
from scipy.fft import dct

from lib import audio, metrics
from lib.evaluation import scores

SR, SECONDS = 16000, 1.0
TRAINED = 25  # segments a person in training; those after them are asked about
AT_MOST = 50


class TooFewPeople(ValueError):
    """Not enough people with enough speech for a comparison that means something."""


def compare(voices, seed=0, networks=2):
    """Which of the Test people speaks in this segment? A row a training set: share answered right, with its 95 %
    interval.

    voices: a table with speaker, path and split. An enrollment and a question are 1 s each, of speech that neither
    recogniser was trained on. Both training sets count as many people; in the leaked one the Test people replace some
    of Train. Raises `TooFewPeople` where fewer than two Test people, or fewer Train than Test people, have enough
    recordings.
    """
    rng = np.random.default_rng(seed)
    people = {split: _segments(voices[voices["split"] == split], rng) for split in ("Train", "Test")}
    train, test = people["Train"], people["Test"]
    if len(test) < 2 or len(train) <= len(test):
        raise TooFewPeople(
            f"the comparison takes 2 or more Test people, more Train people, and {(TRAINED + 2) * SECONDS:.0f} s of"
            f" each; here are {len(test)} and {len(train)}."
        )
    asked = {name: features[TRAINED:] for name, features in test.items()}
    kept = rng.permutation(sorted(train))[len(test) :]
    sets = {"clean": train, "leaked": {**{name: train[name] for name in kept}, **test}}
    rows = []
    for name, known in sets.items():
        taught = [features[:TRAINED] for features in known.values()]
        with metrics.one_thread():
            right = np.mean([_answers(_recogniser(taught, seed + k), asked) for k in range(networks)], axis=0)
        mean, low, high = metrics.bootstrap_interval(right, seed)
        rows.append(
            dict(
                training_set=name,
                people_in_training=len(known),
                test_people_among_them=len(set(known) & set(test)),
                questions=len(right),
                share_right=mean,
                low=low,
                high=high,
            )
        )
    return pd.DataFrame(rows)


def _segments(voices, rng):
    """speaker -> features of their segments `(segments, 38)`; whoever has too few is left out."""
    people = {}
    for speaker, rows in voices.groupby("speaker"):
        wave = np.zeros(0, dtype=np.float32)
        for path in rng.permutation(rows["path"].to_numpy(dtype=object)):
            wave = np.append(wave, audio.set_level(audio.read(path)))
            if len(wave) >= AT_MOST * SECONDS * SR:
                break
        count = min(AT_MOST, int(len(wave) / (SECONDS * SR)))
        if count >= TRAINED + 2:
            people[speaker] = _features(wave[: int(count * SECONDS * SR)].reshape(count, -1))
    return people


def _features(waves):
    """Mean and spread over time of 19 mel cepstral coefficients of `waves` `(batch, samples)`, `(batch, 38)`: the
    colour of a voice, not its words.
    """
    frames = np.lib.stride_tricks.sliding_window_view(waves, 512, axis=1)[:, ::256] * np.hanning(512).astype(np.float32)
    power = np.abs(np.fft.rfft(frames)).astype(np.float32) ** 2  # (batch, frames, bins)
    with metrics.one_thread():  # numpy's own product would wait for its threads where another program keeps them busy
        bands = (torch.from_numpy(power) @ torch.from_numpy(_mel_filters().T)).numpy()
    coefficients = dct(np.log(bands + 1e-4), norm="ortho")[..., 1:20]
    return np.concatenate([coefficients.mean(axis=1), coefficients.std(axis=1)], axis=1).astype(np.float32)


def _mel_filters(bands=40):
    """Triangles of equal width in mel, `(bands, 257)`."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), bands + 2) / 2595) - 1)
    low, centre, high, bins = edges[:-2, None], edges[1:-1, None], edges[2:, None], np.arange(257) * SR / 512
    return np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))).astype(np.float32)


def _recogniser(taught, seed, epochs=60):
    """A function from features `(n, 38)` to directions `(n, 64)`, learned by naming the people of `taught`."""
    random = torch.Generator().manual_seed(seed)
    everything = torch.from_numpy(np.concatenate(taught))
    mean, spread = everything.mean(0), everything.std(0) + 1e-6
    known, names = (
        (everything - mean) / spread,
        torch.arange(len(taught)).repeat_interleave(torch.tensor([len(part) for part in taught])),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = torch.nn.Sequential(torch.nn.Linear(38, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64))
        head = torch.nn.Linear(64, len(taught))
    optimizer = torch.optim.AdamW([*body.parameters(), *head.parameters()], lr=2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(known), generator=random).split(64):
            noisy = known[batch] + 0.1 * torch.randn(known[batch].shape, generator=random)
            loss = torch.nn.functional.cross_entropy(head(body(noisy)), names[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def directions(features):
        return torch.nn.functional.normalize(body((torch.from_numpy(features) - mean) / spread)).numpy()

    return directions


def _answers(directions, asked):
    """1.0 for each segment whose nearest enrollment, one a person, is that of its speaker, else 0.0."""
    places, right = [directions(features) for features in asked.values()], []
    for person, own in enumerate(places):
        for number in range(len(own)):
            enrollments = np.array([other[(number + 1) % len(other)] for other in places])
            right.append(float(np.argmax(enrollments @ own[number]) == person))
    return right


def heard_and_unheard(model, folder, limit=24, progress=True):
    """SI-SDRi (dB) of `model` on `limit` mixtures of the Train people, whom it has heard, and of the Test people: a row
    each.

    folder: a Dataset. Columns: people, mixtures, si_sdri, low, high (95 %), share_over_1_db.
    """
    rows = []
    for split, people in (("Train", "heard in training"), ("Test", "never heard")):
        data = scores.open_test(folder, limit, split)[0]
        estimates = scores.extract_all(model, data, people, progress=progress)
        values = scores.evaluate({people: estimates}, data, chosen=("si_sdr",), progress=False)["si_sdri"]
        mean, low, high = metrics.bootstrap_interval(values)
        rows.append(
            dict(people=people, mixtures=len(values), si_sdri=mean, low=low, high=high, **metrics.shares(values))
        )
    return pd.DataFrame(rows)
