"""Reading Dataset folders brought ready-made without a manifest, with all that can be wrong about their files."""

import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from made_voices import make_voices

from lib import audio
from lib.data import inspection, mixtures
from lib.data.dataset import DatasetError, check_dataset, collate, open_dataset

SR = 16000


def wave(index, seconds=1.0):
    """A wave that tells its index: a sine of 100 * index Hz."""
    return (0.3 * np.sin(2 * np.pi * 100 * index * np.arange(round(seconds * SR)) / SR)).astype(np.float32)


def place(folder, kind, index, split="Test"):
    directory = {"clean": "Clean", "mix": "Mix", "enrollment": "Target"}[kind]
    return folder / f"{split}_Dataset" / directory / f"{kind}_{index:06d}.wav"


@pytest.fixture
def folder(tmp_path):
    for index in (1, 2, 3):
        audio.write(place(tmp_path, "clean", index), wave(index))
        audio.write(place(tmp_path, "mix", index), 0.9 * wave(index))
        audio.write(place(tmp_path, "enrollment", index), wave(index, 1 + index / 2))
    return tmp_path


def test_ready_made_folder_without_a_manifest(folder):
    pairs = check_dataset(folder)
    assert pairs["index"].tolist() == [1, 2, 3] and set(pairs["split"]) == {"Test"}
    assert pairs["seconds"].eq(1.0).all() and pairs["enrollment_seconds"].tolist() == [1.5, 2.0, 2.5]
    item = open_dataset(folder, "Test")[1]
    assert item["index"] == 2 and all(
        item[name].dtype == torch.float32 and item[name].ndim == 1 for name in ("mix", "target", "enrollment")
    )
    assert (
        np.abs(item["target"].numpy() - wave(2)).max() < 1e-4
        and np.abs(item["mix"].numpy() - 0.9 * wave(2)).max() < 1e-4
    )


def test_pairs_go_by_number_not_by_place_in_a_sorted_list(folder):
    for index in (10, 100):  # unpadded names sort as 10, 100, 2
        for kind in ("clean", "mix", "enrollment"):
            audio.write(place(folder, kind, 1).with_name(f"{kind}_{index}.wav"), wave(index % 30))
    place(folder, "mix", 2).rename(place(folder, "mix", 2).with_name("mix_2.wav"))
    data = open_dataset(folder, "Test")
    assert [item["index"] for item in data] == [1, 2, 3, 10, 100]
    for item in data:
        assert np.corrcoef(item["mix"], item["target"])[0, 1] > 0.999


@pytest.mark.parametrize("kind", ["clean", "mix", "enrollment"])
def test_missing_partner_is_named_with_its_index(folder, kind):
    place(folder, kind, 2).unlink()
    for call in (
        lambda: check_dataset(folder),
        lambda: open_dataset(folder, "Test"),
        lambda: check_dataset(folder, skip_bad=True),
    ):
        with pytest.raises(DatasetError, match=rf"index 2 of Test lacks .*{kind}_000002\.wav"):
            call()


def test_unequal_lengths_are_named(folder):
    audio.write(place(folder, "mix", 3), wave(3)[:-1])
    for deep in (True, False):
        with pytest.raises(
            DatasetError, match=r"index 3 of Test: .*clean_000003\.wav lasts 1\.0000 s, but mix_000003\.wav 0\.9999 s"
        ):
            check_dataset(folder, deep=deep)


def test_another_rate_and_stereo_are_converted_and_said_once(folder):
    for index in (1, 2):
        for kind in ("clean", "mix"):
            path = place(folder, kind, index)
            both = np.stack([audio.resample(audio.read(path), SR, 44100)] * 2, axis=1)
            soundfile.write(path, both, 44100, subtype="PCM_16")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        data = open_dataset(folder, "Test")
        items = list(data)
    assert [str(warning.message) for warning in said if "44100 Hz, 2 channels" in str(warning.message)] and len(
        said
    ) == 1
    assert len(items[0]["mix"]) == len(items[0]["target"]) == SR
    assert np.abs(items[0]["target"].numpy() - wave(1))[200:-200].max() < 1e-2


@pytest.mark.parametrize(
    "content, says",
    [(b"", "empty"), (b"this is not audio" * 9, "cannot be decoded"), ("header", "no audio samples"), ("nan", "NaN")],
)
def test_bad_file_is_named_and_skipped_only_when_asked(folder, content, says):
    path = place(folder, "enrollment", 2)
    if content == "header":
        soundfile.write(path, np.zeros(0), SR)
    elif content == "nan":
        soundfile.write(path, np.where(np.arange(SR) == 77, np.nan, 0.1), SR, subtype="FLOAT")
    else:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"Test 2: .*enrollment_000002\.wav: .*{says}"):
        check_dataset(folder)
    with pytest.warns(UserWarning, match=r"Left out 1 mixture\(s\) .*enrollment_000002\.wav"):
        assert check_dataset(folder, skip_bad=True)["index"].tolist() == [1, 3]
    with pytest.warns(UserWarning, match="Left out 1"):
        assert [item["index"] for item in open_dataset(folder, "Test", skip_bad=True)] == [1, 3]


def test_file_that_turns_out_damaged_when_read_is_named(folder):
    soundfile.write(place(folder, "mix", 1), np.full(SR, np.nan), SR, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match=r"mix_000001\.wav: .*NaN"):
        open_dataset(folder, "Test")[0]


def test_all_files_bad_is_an_error_even_when_skipping(folder):
    for index in (1, 2, 3):
        place(folder, "mix", index).write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(DatasetError, match="no usable mixture"):
        check_dataset(folder, skip_bad=True)


@pytest.mark.parametrize("interferers", ['["ben"]', '["anna"]'])
def test_speaker_in_two_splits_is_named(folder, interferers):
    for split, speaker, others in (
        ("Train", "anna", '["carl"]'),
        ("Test", "dora" if "anna" in interferers else "anna", interferers),
    ):
        directory = folder / f"{split}_Dataset"
        directory.mkdir(exist_ok=True)
        pd.DataFrame(dict(index=[1], speaker=[speaker], interferers=[others])).to_csv(
            directory / "manifest.csv", index=False
        )
    with pytest.raises(DatasetError, match="anna in Train and Test"):
        open_dataset(folder, "Test")


def test_manifest_names_the_speakers(folder):
    pd.DataFrame(dict(index=[3, 1], speaker=["carl", "anna"])).to_csv(
        folder / "Test_Dataset" / "manifest.csv", index=False
    )
    assert check_dataset(folder).set_index("index")["speaker"].to_dict() == {
        1: "anna",
        2: pytest.approx(np.nan, nan_ok=True),
        3: "carl",
    }


def test_folders_and_names_that_are_wrong(folder, tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        check_dataset(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="found none of them"):
        check_dataset(tmp_path / "empty")
    with pytest.raises(DatasetError, match="Clean: no such folder"):
        open_dataset(folder, "Val")
    (folder / "Test_Dataset" / "Mix" / ".hidden_000009.wav").write_bytes(b"left by a file manager")
    check_dataset(folder)
    audio.write(folder / "Test_Dataset" / "Mix" / "mix_2.wav", wave(2))
    with pytest.raises(DatasetError, match=r"index 2 is also that of mix_000002\.wav"):
        check_dataset(folder)
    (folder / "Test_Dataset" / "Mix" / "mix_2.wav").rename(folder / "Test_Dataset" / "Mix" / "notes.wav")
    with pytest.raises(DatasetError, match=r"notes\.wav: expected a name that ends in its index"):
        check_dataset(folder)


def test_collate_pads_and_gives_lengths(folder):
    for kind in ("clean", "mix"):
        audio.write(place(folder, kind, 2), wave(2, 0.5))
    batch = next(iter(torch.utils.data.DataLoader(open_dataset(folder, "Test"), batch_size=3, collate_fn=collate)))
    assert batch["mix"].shape == batch["target"].shape == (3, SR) and batch["enrollment"].shape == (3, 2.5 * SR)
    assert batch["lengths"].tolist() == [SR, SR // 2, SR] and batch["enrollment_lengths"].tolist() == [
        1.5 * SR,
        2 * SR,
        2.5 * SR,
    ]
    assert not batch["mix"][1, SR // 2 :].any() and batch["mix"][1, SR // 2 - 20 : SR // 2].any()
    assert batch["index"].tolist() == [1, 2, 3] and batch["mix"].dtype == torch.float32


def test_segment_seconds_cuts_mix_and_target_alike(folder):
    item = open_dataset(folder, "Test", segment_seconds=0.25)[2]
    assert len(item["mix"]) == len(item["target"]) == SR // 4 and len(item["enrollment"]) == 2.5 * SR


def test_ready_made_folder_can_be_looked_into_without_a_manifest(folder):
    assert inspection.is_ready_made(folder) and not inspection.is_ready_made(folder / "Test_Dataset")
    table = inspection.facts(folder)
    assert (
        table["index"].tolist() == [1, 2, 3] and table["sir_db"].between(19.9, 20.1).all()
    )  # mix = 0.9 target: the rest is a tenth
    waves = inspection.take_apart(folder, "Test", 2)
    assert list(waves) == ["mixture", "enrollment", "all but the target", "target"]
    assert np.allclose(waves["mixture"], waves["target"] + waves["all but the target"], atol=1e-6)
    voices = inspection.voices_of(folder)
    assert len(voices) == 6 and set(voices["speaker"]) == {"somebody in Test"} and set(voices["split"]) == {"Test"}


def test_built_folder_can_be_looked_into(tmp_path):
    mixtures.build(
        make_voices(tmp_path / "v"), tmp_path / "d", train=3, val=2, test=2, background_share=1.0, progress=False
    )
    table = inspection.facts(tmp_path / "d")
    assert (
        table.groupby("split").size().to_dict() == {"Train": 3, "Val": 2, "Test": 2}
        and table["snr_db"].round(1).eq(6.0).all()
    )
    waves = inspection.take_apart(tmp_path / "d", "Val", 2)
    mixture, *rest, target = waves.values()
    assert np.allclose(mixture, sum(rest[1:], target), atol=1e-6)  # the first of the rest is the enrollment
    assert any(label.startswith("interferer (val") for label in waves) and any(
        label.startswith("background (") for label in waves
    )
    with pytest.raises(mixtures.MixtureError, match="no mixture 9 in Val"):
        inspection.take_apart(tmp_path / "d", "Val", 9)
    assert set(inspection.voices_of(tmp_path / "d")["speaker"]) <= {
        f"{split}{k}" for split in ("train", "val", "test") for k in range(6)
    }
