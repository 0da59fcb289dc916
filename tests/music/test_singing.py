"""Words that are sung: the vocoder's pitch and envelope, the line of a score, notes on syllables, what a mix does."""

import mido
import numpy as np
import pytest

from lib import audio
from lib.music import effects, melody, singing, vocals, vocoder
from lib.music.melody import Note

SR, OUT = 16000, 22050


def buzz(pitch, seconds=1.0, sr=SR):
    """A steady vowel: harmonics of `pitch` that fall by 6 dB an octave up to 6 kHz."""
    time = np.arange(int(seconds * sr)) / sr
    return sum(0.1 / k * np.sin(2 * np.pi * pitch * k * time) for k in range(1, int(6000 / pitch))).astype(np.float32)


def words(pitches=(140, 150, 130, 145), sr=SR):
    """Vowels with a hiss before each, as consonants stand before vowels."""
    rng, pieces = np.random.default_rng(0), []
    for pitch in pitches:
        hiss = 0.05 * rng.standard_normal(int(0.08 * sr)).astype(np.float32)
        pieces += [hiss, buzz(pitch, 0.2), np.zeros(int(0.05 * sr), np.float32)]
    return np.concatenate(pieces)


def cents(found, wanted):
    return 1200 * np.log2(np.asarray(found) / wanted)


def heard_pitch(wave, sr):
    """Median pitch of a wave in Hz, by the vocoder, of the voiced frames in its middle."""
    pitch = vocoder.analyse(audio.resample(wave, sr, SR), SR).pitch
    pitch = pitch[len(pitch) // 4 : -len(pitch) // 4]
    return np.median(pitch[pitch > 0])


@pytest.mark.parametrize("pitch", [100, 180, 300])
def test_the_pitch_of_a_vowel_is_found_and_noise_has_none(pitch):
    voice = vocoder.analyse(buzz(pitch), SR)
    inner = voice.pitch[10:-10]
    assert (inner > 0).all() and np.abs(cents(inner, pitch)).max() < 40
    noise = np.random.default_rng(1).standard_normal(SR).astype(np.float32)
    assert (vocoder.analyse(0.1 * noise, SR).pitch > 0).mean() < 0.1


def test_a_voice_put_together_again_has_its_pitch_its_level_and_its_spectrum():
    wave = buzz(150, 1.0)
    voice = vocoder.analyse(wave, SR)
    again = vocoder.synthesise(voice, np.arange(len(voice), dtype=float), voice.pitch, SR)
    assert np.abs(cents(heard_pitch(again, SR), 150)) < 30
    assert audio.rms_db(again[1000:-1000]) == pytest.approx(audio.rms_db(wave[1000:-1000]), abs=2.5)
    for low, high in ((300, 900), (1500, 2500)):
        powers = [np.square(np.abs(np.fft.rfft(one[: len(again)])))[low:high].sum() for one in (wave, again)]
        assert 10 * np.log10(powers[1] / powers[0]) == pytest.approx(0, abs=4)


def test_above_the_band_of_the_recording_a_hiss_goes_on():
    noise = 0.1 * np.random.default_rng(1).standard_normal(SR).astype(np.float32)
    voice = vocoder.analyse(noise, SR)
    wide = vocoder.synthesise(voice, np.arange(len(voice), dtype=float), voice.pitch, OUT)
    power = np.square(np.abs(np.fft.rfft(wide)))
    hertz = np.fft.rfftfreq(len(wide), 1 / OUT)
    levels = [10 * np.log10(power[(hertz > a) & (hertz < b)].mean()) for a, b in ((4000, 7000), (8500, 10000))]
    assert -12 < levels[1] - levels[0] < 0


def test_syllables_have_their_consonant_before_the_vowel():
    found = singing.syllables(vocoder.analyse(words(), SR))
    assert len(found) == 4
    assert all(0.03 < (one.vowel - one.start) * vocoder.STEP <= 0.12 for one in found)
    assert all((one.end - one.vowel) * vocoder.STEP == pytest.approx(0.2, abs=0.05) for one in found)


@pytest.mark.parametrize("octave", [0, 12])
def test_a_note_is_sung_at_its_pitch_for_its_length(octave):
    voice, notes = vocoder.analyse(words(), SR), [Note(0.3, 1.3, 57.0)]
    wave = singing.sing(voice, notes, 1.6, np.random.default_rng(0), OUT, octave=octave)
    assert len(wave) == int(1.6 * OUT)
    middle = wave[int(0.5 * OUT) : int(1.2 * OUT)]
    assert np.abs(cents(heard_pitch(middle, OUT), 220 * 2 ** (octave / 12))) < 60
    assert audio.rms_db(middle) > audio.rms_db(wave[int(1.45 * OUT) :]) + 25  # silent after the note
    assert np.any(wave[int(0.2 * OUT) : int(0.29 * OUT)])  # and the consonant before it


def test_a_line_is_moved_by_octaves_to_where_a_person_sings():
    voice = vocoder.analyse(words(), SR)
    for pitch in (33, 57, 81):
        assert singing.register(voice, [Note(0, 1, pitch)]) == 57 - pitch
    assert not singing.sing(voice, [], 0.5, np.random.default_rng(0), OUT).any()


def test_a_line_has_one_note_at_a_time_the_highest_of_a_chord():
    chord = [Note(0, 1, 60), Note(0.01, 1, 67), Note(0.5, 2, 69), Note(2, 2.02, 71), Note(2.1, 2.6, 50)]
    line = melody.skyline(chord)
    assert [note.pitch for note in line] == [67, 69, 50] and line[0].end == 0.5
    fast = [Note(0.1 * k, 0.1 * k + 0.1, 60 + k) for k in range(6)]
    assert [note.pitch for note in melody.singable(fast)] == [60, 62, 64]
    assert [len(part) for part in melody.phrases([Note(0, 1, 60), Note(1.1, 2, 62), Note(3, 4, 64)])] == [2, 1]


def test_the_leading_line_of_a_score_is_found_in_its_tempo_and_key(tmp_path):
    track = mido.MidiTrack([mido.Message("program_change", channel=1, program=33)])
    for number in range(40):
        notes = [(0, 60 + number % 7), (1, 40), (9, 36), (2, 64), (2, 60)]  # a tune, a bass, a drum, two held notes
        track += [mido.Message("note_on", channel=c, note=p, velocity=90) for c, p in notes]
        track += [
            mido.Message("note_off", channel=c, note=p, time=480 if k == 0 else 0) for k, (c, p) in enumerate(notes)
        ]
    file = mido.MidiFile(ticks_per_beat=480)
    file.tracks.append(track)
    file.save(tmp_path / "a.mid")
    line, channel = melody.lead(tmp_path / "a.mid", 2.0, 8.0, tempo=2.0, key=3)
    assert channel == 0 and line[0].pitch == 63 + 4 % 7
    assert [note.start for note in line[:3]] == pytest.approx([0, 0.25, 0.5], abs=0.02)


def test_effects_keep_the_length_and_do_what_they_say():
    rng, wave = np.random.default_rng(0), buzz(200, 1.0, OUT)
    quiet_loud = np.concatenate([0.05 * wave, wave])
    squeezed = effects.compress(quiet_loud, OUT, -30.0, 4.0)
    ranges = [audio.rms_db(one[len(wave) :]) - audio.rms_db(one[: len(wave)]) for one in (quiet_loud, squeezed)]
    assert ranges[0] == pytest.approx(26, abs=0.5) and ranges[1] < ranges[0] - 8
    assert effects.equalise(wave, OUT, rng).shape == wave.shape
    bent = effects.distort(wave, 20.0)
    assert audio.rms_db(bent) == pytest.approx(audio.rms_db(wave), abs=0.1)
    assert np.abs(bent).max() / bent.std() < np.abs(wave).max() / wave.std()
    wet = effects.reverberate(np.pad(wave, (0, OUT)), OUT, rng, 1.0, -10.0)
    assert wet.shape == (2 * OUT, 2) and audio.rms_db(wet[OUT + 2000 : OUT + 6000].mean(1)) > -60
    assert effects.produced(wave, OUT, rng, wave).shape == (OUT, 2)


def test_vocals_are_sung_and_spoken_by_the_people_given(tmp_path):
    import pandas as pd

    for k in range(3):
        audio.write(tmp_path / f"{k}.wav", words((130 + k, 150, 140, 120)), SR)
    people = [pd.DataFrame({"path": [str(tmp_path / f"{k}.wav")]}) for k in range(3)]
    notes = [Note(1 + 0.5 * k, 1.4 + 0.5 * k, 57 + k % 5) for k in range(10)]
    wave, heard, facts = vocals.perform(notes, people, 12.0, np.random.default_rng(2))
    assert wave.shape == (12 * OUT, 2) and heard.shape == (12 * OUT,) and np.isfinite(wave).all()
    assert audio.rms_db(wave.mean(1)[heard]) > -45 and facts["sung"] + facts["spoken"] > 3
