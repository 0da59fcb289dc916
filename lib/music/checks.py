"""Whether songs are whole: no song in two splits, stems of one length that add up to the mixture, nothing silent."""

import hashlib
import warnings

import numpy as np
import pandas as pd
import soundfile

from lib import audio
from lib.music.songs import APART, STEMS, SongError, length

SILENT_DB = -80.0  # dBFS under which a whole stem counts as silent
QUIET_DB = -60.0  # dBFS under which a stretch does not tell one song from another


def check_disjoint(songs):
    """Raise `SongError` when one song, by name or by what its mixture holds, stands in two splits."""
    seen = {}
    for song in songs:
        for key in (song.name, *_content(song)):
            if key in seen and seen[key].split != song.split:
                raise SongError(
                    f"{song.name} ({song.split}) is {seen[key].name} ({seen[key].split}): the same song in two splits."
                    " Remove it from one."
                )
            seen.setdefault(key, song)


def _content(song):
    """A hash of 2 s of the mixture where it sounds, in a list; an empty list where it is silent at each place tried."""
    seconds = song.seconds()
    for start in (min(5.0, seconds / 2), *(share * seconds for share in (0.3, 0.45, 0.6, 0.75, 0.15, 0.9))):
        wave = song.read("mixture", start=start, seconds=2.0)
        if audio.rms_db(wave) > QUIET_DB:
            return [hashlib.sha1(wave.tobytes()).hexdigest()]
    return []


def heard(songs, target="vocals"):
    """The songs in which `target` sounds at all, and the names of those in which it does not: a score may have no
    bass.
    """
    sounds = [audio.rms_db(song.read(target)) >= SILENT_DB for song in songs]
    return [song for song, there in zip(songs, sounds) if there], [
        song.name for song, there in zip(songs, sounds) if not there
    ]


def check(songs, target="vocals", residual_db=-30.0):
    """Facts of each song, a row each: song, split, seconds, rate, channels, target_db, residual_db; warns of mixtures
    that are not the sum.

    residual_db: what the mixture less all stems leaves, relative to the mixture (NaN where stems are lacking). Raises
    `SongError` for stems
    of unequal length and for a silent mixture or target, naming the files.
    """
    rows, cut = [], []
    for song in songs:
        lengths = {
            path.name if len(paths) == 1 else f"{stem}/{path.name}": length(path)
            for stem, paths in [*song.stems.items(), *([("mixture", [song.mixture])] if song.mixture else [])]
            for path in paths
        }
        spread = max(lengths.values()) - min(lengths.values())
        if spread > APART:
            told = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in lengths.items())
            raise SongError(
                f"{song.name}: its files differ in length ({told}). Export them again from one session, all from the"
                " start."
            )
        if spread:
            longest, rate = max(lengths, key=lengths.get), song.info[0]
            cut.append(f"{song.name} ({longest} by {round(spread * rate)} samples at {rate} Hz)")
        _refuse_cancelling(song, target)
        waves = {stem: song.read(stem) for stem in [*song.stems, *(["mixture"] if song.mixture else [])]}
        mixture = waves.pop("mixture", None) if song.mixture else song.read("mixture")
        for name, wave in (("mixture", mixture), (target, waves[target])):
            if audio.rms_db(wave) < SILENT_DB:
                raise SongError(
                    f"{song.name}: its {name} is silent ({audio.rms_db(wave):.0f} dBFS). Take the song out, or export"
                    " it again."
                )
        whole = set(STEMS) <= set(song.stems) or song.mixture is None
        left = audio.rms_db(mixture - sum(waves.values())) - audio.rms_db(mixture) if whole else np.nan
        rate, frames, channels = song.info
        rows.append(
            dict(
                song=song.name,
                split=song.split,
                seconds=frames / rate,
                rate=rate,
                channels=channels,
                target_db=float(audio.rms_db(waves[target]) - audio.rms_db(mixture)),
                residual_db=float(left),
            )
        )
    table = pd.DataFrame(rows)
    if cut:
        warnings.warn(
            f"{len(cut)} songs have files that differ in length by up to {1000 * APART:.0f} ms, such as {cut[0]}: cut"
            " to the shortest.",
            stacklevel=2,
        )
    if len(odd := table[table["residual_db"] > residual_db]):
        told = ", ".join(f"{row.song} ({row.residual_db:.1f} dB)" for row in odd.head(5).itertuples())
        warnings.warn(
            f"{len(odd)} mixtures are not the sum of their stems; what is left, relative to the mixture: {told}."
            " Mastered mixtures are like this; for training their stems are added up.",
            stacklevel=2,
        )
    return table


def _refuse_cancelling(song, target):
    """Raise `SongError` where the channels of the mixture or the target cancel: their mean, which is used, is no
    sound.
    """
    for path in [*([song.mixture] if song.mixture else []), *song.stems[target]]:
        with soundfile.SoundFile(str(path)) as file:
            if file.channels == 1:
                continue
            file.seek(max(0, file.frames // 2 - 15 * file.samplerate))
            wave = file.read(30 * file.samplerate, dtype="float32")
        loudest = float(np.max(audio.rms_db(wave.T)))
        if loudest > SILENT_DB and audio.rms_db(wave.mean(axis=1)) < loudest - audio.CANCEL_DB:
            raise SongError(
                f"{path}: its channels cancel each other, so that their mean is next to silence. Turn the polarity of"
                " one channel around, or export it again."
            )
