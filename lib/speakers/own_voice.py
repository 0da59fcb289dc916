"""Your own voice as a new class: record or upload a few clips, teach the head, see the scores. Waves are float32 at 16
kHz.
"""

import time

import numpy as np
import pandas as pd
import torch

from lib import listening
from lib.speakers import clips as speakers
from lib.speakers.training import add_person, features


class Newcomer:
    """Somebody added to a trained head.

    `answers(clips)` names clips, `seconds` is what learning took from waves to weights.
    """

    def __init__(self, name, clips, backbone, head, people, old, old_labels, prepare=lambda waves: waves, seed=0):
        started = time.perf_counter()
        if name in people:
            raise speakers.SpeakersError(
                f"{name}: there is already a person of that name among the {len(people)} known. Choose another name."
            )
        self.backbone, self.people, self.prepare = backbone, [*people, name], prepare
        self.head = add_person(
            head, features(backbone, prepare(clips), progress=False, cache=False), old, old_labels, seed=seed
        )
        self.seconds = time.perf_counter() - started

    @torch.no_grad()
    def answers(self, clips, best=3):
        """A row a clip: the `best` most probable people with their probabilities."""
        chances = self.head(features(self.backbone, self.prepare(clips), progress=False, cache=False)).softmax(1)
        top = chances.topk(min(best, len(self.people)))
        return pd.DataFrame(
            [
                {
                    "clip": number,
                    **{
                        f"{rank}.": f"{self.people[place]} ({share:.0%})"
                        for rank, (place, share) in enumerate(zip(places.tolist(), shares.tolist()), start=1)
                    },
                }
                for number, (places, shares) in enumerate(zip(top.indices, top.values), start=1)
            ]
        )


def upload_clips(learn):
    """A field for several files, a recorder, and a button that displays what `learn(clips)` returns, for clips
    `(n, samples)` cut from all of them.
    """
    listening.upload(
        lambda waves: learn(speakers.clips_of_waves(waves)), "clips of your voice", press="learn", several=True
    )


def taught_and_asked(clips):
    """The first two thirds of a person's clips to learn from, the rest to be asked about.

    Raises `SpeakersError` for a single clip.
    """
    if len(clips) < 2:
        raise speakers.SpeakersError(
            "a single clip cannot teach and be asked about. Give two files, or one of more than six seconds."
        )
    split = max(1, (2 * len(clips)) // 3)
    return clips[:split], np.asarray(clips[split:])
