"""What frozen speaker features are good for beyond naming people: strangers told apart, and the speaker side of
extraction.
"""

import numpy as np
import pandas as pd
import torch

from lib import metrics
from lib.evaluation import verification
from lib.mels import mel_power
from lib.speakers import clips as speakers, equalising
from lib.speakers.training import by_person, features, labels_of, new_head, right, train_head

SR = 16000


def recording_check(name, waves, clean, table, people, seed=0):
    """Can the recording alone name the person? A dict of shares of Test clips named right from average spectra,
    `speech` and `silence`.

    One classifier learns the clips `waves` as they are, one only pieces of their silence (found in `clean`, the clips
    before equalising).
    In `silence` each person counts once, so that who guesses is right in one over `chance_of` cases however the pieces
    are spread;
    `silence_low` and `silence_high` are its 95 % interval over people, `pieces` how many were asked.
    """
    speech, _ = _named_by_spectrum(waves, table, people, seed)
    quiet, places = equalising.silence_only(waves, clean)
    if not {"Train", "Test"} <= set(table["part"].to_numpy()[places]):
        raise speakers.SpeakersError(
            "there is too little silence inside these clips to check it. Use recordings that were not cut of their"
            " pauses."
        )
    values, asked = _named_by_spectrum(quiet, table.iloc[places], people, seed)
    each = pd.Series(values).groupby(asked).mean()
    share, low, high = by_person(each, each.index)
    return dict(
        clips=name,
        speech=float(speech.mean()),
        silence=share,
        silence_low=low,
        silence_high=high,
        pieces=len(values),
        chance_of=len(each),
    )


def _named_by_spectrum(waves, table, people, seed):
    feats, labels, asked = (
        mean_spectrum(waves),
        labels_of(table, people),
        torch.tensor((table["part"] == "Test").tolist()),
    )
    head = new_head(feats[~asked], len(people), seed)
    train_head(head, feats[~asked], labels[~asked], seed=seed)
    return right(head, feats[asked], labels[asked]), table["speaker"].to_numpy()[asked.numpy()]


def mean_spectrum(waves, bands=64):
    """The average log spectrum of each clip in dB, `(clips, bands)`, without its mean: no word is left in it, only the
    colour.
    """
    with torch.inference_mode():
        decibels = torch.cat(
            [
                10 * torch.log10(mel_power(torch.from_numpy(part), bands, 512, 256).mean(1) + 1e-10)
                for part in np.array_split(waves, max(len(waves) // 32, 1))
            ]
        )
    return decibels - decibels.mean(1, keepdim=True)


def unknown_people(backbone, clips, mean=None, progress=False):
    """Verification of people never trained on: dict of eer, min_dcf (`Interval`s over people), threshold, pairs,
    people, trials, embeddings.

    Pairs of one person share no word, and where their sessions can be told apart, no session. mean: the features' mean
    over known people.
    """
    embeddings = verification.centre(features(backbone, clips.waves, progress=progress).numpy(), mean)
    tried = verification.trials(embeddings, clips.table["speaker"], apart=list(clips.table["words"]))
    found = verification.intervals(tried, clips.table["speaker"])
    return dict(
        backbone=backbone.name,
        **found,
        threshold=verification.eer(tried.scores, tried.same)[1],
        pairs=len(tried.scores),
        same_pairs=int(tried.same.sum()),
        people=clips.table["speaker"].nunique(),
        trials=tried,
        embeddings=embeddings,
    )


def open_set(embeddings, table, known, threshold, enrolled=3):
    """People `known` are enrolled with `enrolled` clips of the part Train; all Test clips ask, also those of strangers:
    a dict of shares.
    """
    names, part = table["speaker"].to_numpy(), table["part"].to_numpy()
    place = [places[:enrolled] for name in known for places in [np.flatnonzero((names == name) & (part != "Test"))]]
    place, asked = np.concatenate(place), part == "Test"
    answers, _ = verification.identify(embeddings[place], names[place], embeddings[asked], threshold)
    return verification.open_set_rates(answers, names[asked], known)


def tell_apart(backbone, dataset, mean=None, seconds=4.0):
    """How well a backbone tells target from interference in mixtures that are taken apart: a row a mixture.

    Columns: index; target and others, the cosines of the enrollment with the clean target and with all the rest of the
    mixture; margin,
    the first minus the second; mix, the cosine with the mixture as it is. dataset: items as `open_dataset` gives them.
    """
    waves, index = [], []
    for place in range(len(dataset)):
        item = dataset[place]
        mix, target, enrollment = (item[name].numpy() for name in ("mix", "target", "enrollment"))
        waves += [
            speakers.audio.set_level(np.resize(wave, int(seconds * SR)))
            for wave in (enrollment, target, mix - target, mix)
        ]
        index.append(item["index"])
    directions = verification.centre(features(backbone, np.stack(waves), progress=False).numpy(), mean).reshape(
        len(index), 4, -1
    )
    target, others, mix = (np.einsum("nd,nd->n", directions[:, 0], directions[:, kind]) for kind in (1, 2, 3))
    return pd.DataFrame(dict(index=index, target=target, others=others, margin=target - others, mix=mix))


def rank_correlation(x, y, seed=0, draws=2000):
    """Spearman's correlation with its 95 % bootstrap interval over samples: `Interval(mean, low, high)`, -1 to 1."""
    from scipy.stats import spearmanr

    x, y, rng = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.random.default_rng(seed)
    picks = rng.integers(len(x), size=(draws, len(x)))
    drawn = [spearmanr(x[pick], y[pick]).statistic for pick in picks if len(set(pick)) > 2]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return metrics.Interval(float(spearmanr(x, y).statistic), float(low), float(high))
