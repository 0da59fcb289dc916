"""Mixtures in which the person asked for is silent: what they hold, what the manifest says, and who may read them."""

import numpy as np
import pytest
from made_voices import make_voices

from lib.data import inspection, mixtures, recipes
from lib.data.dataset import check_dataset, open_dataset
from lib.data.manifest import read_manifest
from lib.evaluation.scores import open_test

SETTINGS = dict(train=24, val=2, test=8, absent_share=0.6, background_share=1.0, progress=False, workers=1)


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    table = make_voices(tmp_path_factory.mktemp("voices"))
    sexes = {name: "FM"[number % 2] for number, name in enumerate(sorted(table["speaker"].unique()))}
    return table.assign(sex=table["speaker"].map(sexes))


@pytest.fixture(scope="module")
def dataset(voices, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "Dataset"
    summary = mixtures.build(voices, out, **SETTINGS)
    assert summary["silent"].sum() > 5
    return out


def test_every_kind_occurs_and_the_manifest_says_so(dataset):
    manifest = read_manifest(dataset, "Train")
    assert set(manifest["absent"].fillna("")) == {"", *recipes.ABSENT}
    assert (manifest["speaks"] == "no").equals(manifest["absent"].isin(["stranger", "nobody"]))
    assert manifest.loc[manifest["speaks"] == "no", ["sir_db", "snr_db"]].isna().all(axis=None)
    for row in manifest[manifest["absent"] == "stranger"].itertuples():
        assert row.speaker not in row.interferers and len(row.interferers) == len(row.interferer_pieces) + 1
        assert row.target_pieces[0][0] not in {piece[0] for piece in row.enrollment_pieces}
    assert all(names == [] for names in manifest.loc[manifest["absent"] == "nobody", "interferers"])


def test_clean_is_silence_and_the_parts_still_sum_to_the_mixture(dataset):
    manifest, data = read_manifest(dataset, "Train"), open_dataset(dataset, "Train")
    for place, row in enumerate(manifest.itertuples()):
        item, made = data[place], mixtures.parts(dataset, "Train", row.index)
        assert item["target"].any() == (row.speaks == "yes") and item["enrollment"].any() and item["mix"].any()
        total = sum(made["interferers"], made["heard"]) + made["noise"]
        np.testing.assert_allclose(total, item["mix"].numpy(), atol=0.5 / 32768 + 1e-6)
        if row.absent == "half":
            start, end = row.quiet
            inside = item["target"][start + 700 : end - 700]
            assert end - start == len(item["mix"]) // 2 and not inside.any() and item["target"].any()


def test_strangers_are_of_either_sex(voices, tmp_path):
    mixtures.build(voices, tmp_path / "D", **{**SETTINGS, "train": 60, "val": 0, "test": 0, "absent_share": 1.0})
    manifest = read_manifest(tmp_path / "D", "Train")
    sexes = voices.drop_duplicates("speaker").set_index("speaker")["sex"]
    found = manifest[manifest["absent"] == "stranger"]
    same = [sexes[row.speaker] == sexes[row.interferers[0]] for row in found.itertuples()]
    assert 0.25 < np.mean(same) < 0.75


def test_the_checks_take_them_and_a_test_set_leaves_them_out(dataset):
    checked = check_dataset(dataset)
    silent = (~checked.loc[checked["split"] == "Test", "speaks"]).sum()
    test, facts = open_test(dataset)
    absent, others = open_test(dataset, speaks=False)
    assert len(absent) == silent > 0 and len(test) == 8 - silent == len(facts)
    assert not any(item["target"].any() for item in absent) and all(item["target"].any() for item in test)
    assert list(others["index"]) == [item["index"] for item in absent]
    told = inspection.facts(dataset)
    assert told.loc[told["speaks"] == "no", "level_after_db"].isna().all() and told["level_after_db"].notna().any()


def test_without_a_share_a_dataset_stays_what_it_was(voices, tmp_path):
    settings = dict(train=4, val=0, test=0, progress=False, workers=1)
    mixtures.build(voices, tmp_path / "D", **settings)
    before = {path.name: path.read_bytes() for path in (tmp_path / "D").rglob("*.wav")}
    mixtures.build(voices, tmp_path / "E", **settings, absent_share=0.0)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "E").rglob("*.wav")}
    with pytest.raises(mixtures.MixtureError, match="absent_share"):
        mixtures.build(voices, tmp_path / "F", **settings, absent_share=1.5)
