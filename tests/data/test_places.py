"""Places: rooms that reverberate as asked, seats nobody shares, devices, a folder of one's own and its faults."""

import json

import numpy as np
import pytest
from made_voices import make_voices

from lib import audio
from lib.data import mixture_settings, mixtures, places, rendering, responses, rooms, seating
from lib.data.devices import Device, own_noise

SR = 16000
SMALL = dict(size=(4.0, 3.5, 2.5), microphone=(2.0, 1.7, 1.0), rt60=0.2, seats=3, other_distance=(0.8, 1.6))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(seating, "_loaded", {})


@pytest.fixture
def voices(tmp_path):
    return make_voices(tmp_path / "voices", train=3, val=2, test=2, recordings=6, seconds=(2.0, 4.0))


def tone(hz, seconds=1.0):
    return 0.1 * np.sin(2 * np.pi * hz * np.arange(round(seconds * SR)) / SR).astype(np.float32)


def level(wave):
    return float(audio.rms_db(wave[2000:-2000]))


# --- rooms


@pytest.mark.parametrize("size, rt60", [((6.8, 5.2, 2.9), 0.5), ((6.0, 5.0, 3.0), 0.8), ((5.0, 4.0, 2.7), 0.3)])
def test_a_room_reverberates_as_long_as_asked(size, rt60):
    sources = [(size[0] * 0.7, size[1] * 0.3, 1.4), (size[0] * 0.3, size[1] * 0.7, 1.4)]
    made = rooms.simulate(list(size), rt60, [size[0] / 2, size[1] / 2, 1.0], sources, SR)
    for response in made:
        assert rooms.reverberation_time(response, SR) == pytest.approx(rt60, rel=0.15)
        power = np.abs(np.fft.rfft(response, SR)) ** 2  # 1 Hz a bin
        assert power[:60].sum() < 0.02 * power[:1000].sum()  # image sources do not pile up under the lowest voices


def test_the_decay_of_a_known_response_is_measured():
    times = np.arange(SR) / SR
    response = np.random.default_rng(0).standard_normal(SR) * 10 ** (-3 * times / 0.4)  # 60 dB in 0.4 s
    assert rooms.reverberation_time(response, SR) == pytest.approx(0.4, rel=0.05)


def test_early_keeps_the_direct_sound_and_fades_after_it():
    response = np.zeros(4000, dtype=np.float32)
    response[[100, 100 + 320, 100 + 1600]] = 1.0  # 20 and 100 ms after the first
    kept = rooms.early(response, SR)
    assert kept[100] == 1 and kept[420] == 1 and len(kept) == 100 + 800


# --- devices


def test_a_device_takes_what_its_curve_says_and_delays_nothing():
    device = Device(curve=((0, -60), (400, -60), (600, 0), (8000, 0)))
    assert level(device(tone(200))) < level(tone(200)) - 40
    passed = device(tone(2000))
    assert level(passed) == pytest.approx(level(tone(2000)), abs=0.3)
    assert np.abs(passed - tone(2000))[2000:-2000].max() < 0.01
    assert Device()(tone(500)) is not None and np.array_equal(Device()(tone(500)), tone(500))


def test_a_telephone_line_rounds_and_a_loud_peak_is_cut():
    line = Device(codec="mu-law")
    error = line(tone(1000)) - tone(1000)
    assert -45 < level(error) - level(tone(1000)) < -25  # 8 bits, companded
    assert np.abs(Device(clip_dbfs=-26.0)(tone(1000))).max() == pytest.approx(10 ** (-26 / 20), rel=1e-3)
    assert level(own_noise(Device(floor_dbfs=-50.0), np.random.default_rng(0), SR)) == pytest.approx(-50, abs=0.3)


@pytest.mark.parametrize(
    "wrong, said", [(dict(codec="mp3"), "known are"), (dict(curve=[[300, 0], [100, 0]]), "rising Hz")]
)
def test_a_device_that_cannot_be_is_named(wrong, said):
    with pytest.raises(ValueError, match=said):
        Device(**wrong)


# --- seats and mixtures


def test_no_two_people_share_a_seat_and_no_two_splits_one():
    place = places.NAMED["office"]
    seats = np.concatenate([seat for split in seating.SPLITS for seat in seating.seats(place, split).values()])
    assert len(seats) == 3 * 48 and len(np.unique(seats, axis=0)) == len(seats)
    far = np.linalg.norm(seating.seats(place, "Test")["target"] - np.array(place.microphone), axis=1)
    assert far.min() >= 0.6 and far.max() <= 1.4
    for split in seating.SPLITS:
        everybody = np.concatenate(list(seating.seats(place, split).values()))
        apart = np.linalg.norm(everybody[:, None] - everybody[None], axis=-1) + 10 * np.eye(len(everybody))
        assert apart.min() > 0.25


def test_a_line_whose_filter_overshoots_makes_the_mixture_fainter_and_not_clipped():
    line = places.open_place("phone").device
    rng = np.random.default_rng(0)
    loud = 0.99 * np.sign(np.sin(2 * np.pi * 500 * np.arange(8000) / 16000)).astype(np.float32)
    target = rng.standard_normal(8000).astype(np.float32) * 0.01
    assert np.abs(line(loud)).max() > 1.0  # so it was refused, and the whole data set with it
    mix, scale, (fainter,) = rendering._through(line, loud, np.float32(1), [target])
    assert 0.9 < np.abs(mix).max() <= 1.0 and scale < 1
    np.testing.assert_allclose(fainter, scale * target, rtol=1e-5)
    np.testing.assert_array_equal(mix, line(scale * loud))
    same, one, _ = rendering._through(line, 0.5 * loud, np.float32(1), [target])
    assert one == 1 and np.array_equal(same, line(0.5 * loud))


def test_a_mixture_of_a_place_is_the_sum_of_what_the_microphone_hears(voices, tmp_path):
    place = places.open_place("office", **SMALL)
    mixtures.build(voices, tmp_path / "d", place=place, train=0, val=0, test=3, progress=False)
    for index in (1, 2, 3):
        made = mixtures.parts(tmp_path / "d", "Test", index)
        total = made["heard"] + sum(made["interferers"]) + made["noise"]
        np.testing.assert_allclose(made["mix"], total, atol=1e-6)
        assert not np.allclose(made["target"], made["heard"], atol=1e-3)
        stored = audio.read(tmp_path / "d" / "Test_Dataset" / "Clean" / f"clean_{index:06d}.wav")
        assert np.abs(stored - made["target"]).max() < 1e-4
    row = mixtures.read_manifest(tmp_path / "d", "Test").iloc[0]
    assert row["place"] == "office" and row["room"]["target"].startswith("target") and row["background"] == "fan"
    again = mixtures.build(voices, tmp_path / "d", place=place, train=0, val=0, test=3, progress=False)
    assert len(again) == 1  # the same settings: nothing to do


def test_settings_given_win_over_the_places_own():
    settings = mixture_settings.make_settings(place="office", snr_db=(20.0, 20.0))
    assert settings.sir_db == (0.0, 6.0) and settings.snr_db == (20.0, 20.0) and settings.fan_share == 1.0
    assert mixture_settings.make_settings(place="studio").fan_share == 0.0


# --- a place of one's own


def own_place(folder, count=6):
    rng = np.random.default_rng(0)
    audio.write(folder / "noise" / "room.wav", 0.01 * rng.standard_normal(40 * SR).astype(np.float32), SR)
    for k in range(count):
        decay = rng.standard_normal(SR // 2) * 10 ** (-3 * np.arange(SR // 2) / SR / 0.25)
        wave = np.concatenate([1e-4 * rng.standard_normal(SR // 4), 0.5 * decay / np.abs(decay).max()])
        audio.write(folder / "responses" / f"clap {k}.wav", wave.astype(np.float32), SR)
    return folder


def test_a_folder_is_a_place(voices, tmp_path, capsys):
    folder = own_place(tmp_path / "kitchen")
    (folder / "device.json").write_text(json.dumps(dict(curve=[[0, -40], [300, 0], [8000, 0]])))
    place = places.open_place(str(folder))
    assert (
        place.name == "kitchen"
        and place.device.curve[0] == (0.0, -40.0)
        and "6 response(s), RT60 0.2" in capsys.readouterr().out
    )
    made = [seating.responses(place, split) for split in seating.SPLITS]
    assert [len(one) for one in made] == [4, 4, 4]
    assert len({one["target 0"].tobytes() for one in made}) == 3  # no seat in two splits
    assert rooms.reverberation_time(made[0]["target 0"], SR) == pytest.approx(0.25, rel=0.2)
    table = mixtures.build(voices, tmp_path / "d", place=str(folder), interferers=(1, 1), train=0, val=0, test=2)
    assert table["mixtures"].tolist() == [2]


def test_what_is_missing_is_simulated_and_said(tmp_path, capsys):
    folder = own_place(tmp_path / "hall", count=2)
    place = places.open_place(str(folder), **{name: value for name, value in SMALL.items() if name != "rt60"})
    said = capsys.readouterr().out
    assert "no device.json" in said and "2 response(s)" in said and place.rt60 == pytest.approx(0.25, rel=0.2)


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda folder: [path.unlink() for path in (folder / "noise").iterdir()], "no noise/"),
        (lambda folder: audio.write(folder / "responses" / "a.wav", np.sign(tone(50)), SR), "a.wav.*clips"),
        (lambda folder: audio.write(folder / "responses" / "a.wav", tone(50, 6.0), SR), r"a.wav.*6.0 s is too long"),
        (
            lambda folder: audio.write(folder / "responses" / "a.wav", 0 * tone(50), SR),
            "a.wav.*no response|a.wav.*silent",
        ),
        (lambda folder: (folder / "device.json").write_text("{curve: 1}"), "device.json: not valid JSON"),
        (lambda folder: (folder / "device.json").write_text('{"bass": 1}'), "bass"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_sentence(tmp_path, spoil, said):
    folder = own_place(tmp_path / "kitchen")
    spoil(folder)
    with pytest.raises(places.PlaceError, match=said):
        places.open_place(str(folder))


@pytest.mark.parametrize(
    "wrong, said",
    [
        (dict(place="moon"), "no place 'moon'; known are: studio, office"),
        (dict(place="office", rt61=1), "unknown mixture setting rt61"),
    ],
)
def test_an_unknown_place_or_setting_lists_the_known(wrong, said):
    with pytest.raises(mixtures.MixtureError, match=said):
        mixture_settings.make_settings(**wrong)


def test_a_room_too_small_for_its_seats_is_named():
    with pytest.raises(places.PlaceError, match="only .* of 24 seats"):
        seating.seats(places.open_place("office", size=(2.0, 2.0, 2.4), microphone=(1.0, 1.0, 1.0)), "Train")


def test_a_recorded_sweep_gives_the_response_back():
    times = np.arange(2 * SR) / SR
    sweep = (0.3 * np.sin(2 * np.pi * 50 * 2 / np.log(140) * (140 ** (times / 2) - 1))).astype(np.float32)
    response = np.zeros(1600, dtype=np.float32)
    response[[0, 400, 900]] = 1.0, 0.5, -0.25
    found = responses.deconvolve(np.convolve(sweep, response).astype(np.float32), sweep)
    found = found / found.max()
    assert [int(np.argmax(np.abs(found))), *found[[400, 900]]] == pytest.approx([0, 0.5, -0.25], abs=0.06)
