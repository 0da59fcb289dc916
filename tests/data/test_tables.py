"""Tables as people write them: Excel, pandas, Notepad and a Mac; read, or refused with file and line."""

import unicodedata
import warnings

import numpy as np
import pytest

from lib import audio
from lib.data import tables
from lib.data.dataset import DatasetError, check_dataset, open_dataset
from lib.data.manifest import read_manifest

SR = 16000
TRAIN, TEST = "index,speaker\n1,kim\n2,lee\n", "index,speaker\n1,kim\n2,park\n"


@pytest.fixture
def folder(tmp_path):
    for number, split in enumerate(("Train", "Test")):
        for index in (1, 2):
            wave = 0.3 * np.sin(np.arange(SR) * (0.05 + 0.01 * index + 0.03 * number))
            for place, name in (("Clean", "clean"), ("Mix", "mix"), ("Target", "enrollment")):
                audio.write(tmp_path / f"{split}_Dataset" / place / f"{name}_{index:06d}.wav", wave)
    return tmp_path


def write(folder, text, split="Test", encoding="utf-8"):
    (folder / f"{split}_Dataset" / "manifest.csv").write_bytes(text.encode(encoding))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace(",", " | "),
        lambda text: "sep=;\n" + text.replace(",", ";"),
        lambda text: text.replace("index,speaker", "Index,Speaker ID"),
        lambda text: text.replace("index,speaker", "INDEX, TARGET-SPEAKER"),
        lambda text: text.replace("speaker", "speakers"),
        lambda text: text.replace(",", ", ").replace("\n", " \n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: "\ufeff" + text,
        lambda text: "".join(f"{row},{line}\n" for row, line in zip(["", 0, 1], text.splitlines())),  # pandas' index
        lambda text: text.replace("1,", '"mix_000001.wav",').replace("2,", '"mix_000002.wav",'),
        lambda text: text.replace("1,", "1.0,").replace("2,", "2.0,"),
        lambda text: text.replace("1,", "1.00E+00,").replace("2,", "2.00E+00,"),
        lambda text: "# made by hand\n" + text.replace("kim", "\u200bkim\u00a0"),
        lambda text: text.replace("index", "file").replace("1,", "Mix/mix_000001.wav,").replace("2,", "Mix/mix_2.wav,"),
    ],
)
def test_a_person_in_two_splits_is_seen_in_every_form(folder, change):
    write(folder, change(TRAIN), "Train")
    write(folder, change(TEST))
    with pytest.raises(DatasetError, match="speaker in two splits: kim in Train and Test"):
        check_dataset(folder)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp949"])
def test_hangul_in_every_encoding(folder, encoding):
    write(folder, TRAIN.replace("kim", "김철수"), "Train")
    write(folder, TEST.replace("kim", "김철수"), encoding=encoding)
    with pytest.raises(DatasetError, match="김철수 in Train and Test"):
        check_dataset(folder)


def test_accents_of_a_western_file_and_of_a_mac_are_the_same(folder):
    write(folder, TRAIN.replace("kim", "Zoë Müller"), "Train", "cp1252")
    write(folder, unicodedata.normalize("NFD", TEST.replace("kim", "Zoë Müller")))
    with pytest.raises(DatasetError, match="Zoë Müller in Train and Test"):
        check_dataset(folder)


@pytest.mark.parametrize("cell", ["kim", "kim;choi", '"kim, choi"', "kim|choi", "\"['kim', 'choi']\"", '"[""kim""]"'])
def test_interferers_are_names_in_every_form(folder, cell):
    write(folder, f"index,speaker,interferers\n1,a,{cell}\n2,b,\n", "Train")
    write(folder, "index,speaker,interferers\n1,kim,c\n2,d,\n")
    with pytest.raises(DatasetError, match="kim in Train and Test"):
        check_dataset(folder)


@pytest.mark.parametrize("text", ["index,speakers\n1,a;kim\n2,b\n", "index,speaker_1,speaker_2\n1,a,kim\n2,b,\n"])
def test_several_people_in_the_column_of_speakers(folder, text):
    write(folder, text, "Train")
    write(folder, TEST)
    with pytest.raises(DatasetError, match="kim in Train and Test"):
        check_dataset(folder)


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "manifest.csv: empty. Expected a line of column names"),
        ("\n\n", "manifest.csv: empty"),
        ("index,speaker\n1,kim\n,lee\n", "manifest.csv, line 3: expected the index of a mixture"),
        ("index,speaker\n-1,kim\n", "line 2: expected the index of a mixture"),
        ("index,speaker\n1.5,kim\n", "line 2: expected the index of a mixture"),
        ("index,speaker\nfirst,kim\n", "manifest.csv, line 2: expected the index of a mixture"),
        ("index,speaker\n1,kim\n1,lee\n", r"names index 1 more than once \(lines 2, 3\)"),
        ("index,speaker,speaker\n1,kim,lee\n", "two columns are called 'speaker'"),
        ("index,speaker\n1,kim,lee\n", "line 2: 3 cells, but the header has 2"),
        ("index,speaker,role\n1,a,target\n1,b,target\n", "2 rows of index 1 have the role target"),
    ],
)
def test_what_is_not_understood_is_said_with_its_line(folder, text, said):
    write(folder, text)
    with pytest.raises(DatasetError, match=said):
        check_dataset(folder)


def test_a_workbook_of_excel_and_a_file_that_is_no_text(folder):
    for data, said in ((b"PK\x03\x04" + bytes(40), "workbook of Excel"), (bytes([0, 1, 2, 0, 0, 0, 7]), "not a text")):
        (folder / "Test_Dataset" / "manifest.csv").write_bytes(data)
        with pytest.raises(DatasetError, match=rf"manifest.csv: .*{said}"):
            check_dataset(folder)


@pytest.mark.parametrize("header", ["index,name of who talks", "number of takes,speaker"])
def test_a_manifest_that_names_no_speaker_is_said(folder, header):
    write(folder, f"{header}\n1,kim\n2,lee\n")
    with pytest.warns(UserWarning, match="manifest.csv: no column names the (speaker|index), so it cannot tell"):
        assert len(check_dataset(folder)) == 4


def test_indices_of_no_file_are_said(folder):
    write(folder, "index,speaker\n101,kim\n102,lee\n")
    with pytest.warns(UserWarning, match="none of its indices is that of a file"):
        check_dataset(folder)


def test_a_row_a_person_is_one_mixture(folder):
    text = "index,speaker,role\n1,a,target\n1,kim,interferer\n2,b,target\n"
    write(folder, text, "Train")
    assert len(check_dataset(folder)) == 4 and len(open_dataset(folder, "Train")) == 2
    assert check_dataset(folder).query("split == 'Train'")["speaker"].tolist() == ["a", "b"]
    write(folder, TEST)
    with pytest.raises(DatasetError, match="kim in Train and Test"):
        check_dataset(folder)


@pytest.mark.parametrize("name", ["NA", "None", "null", "nan", "N/A", "-", "007", "1e5", "TRUE"])
def test_names_stay_text(folder, name):
    write(folder, f"index,speaker,interferers\n1,{name},lee\n2,b,\n", "Train")
    assert check_dataset(folder)["speaker"].tolist()[0] == name
    assert read_manifest(folder, "Train")["speaker"].tolist() == [name, "b"]
    write(folder, f"index,speaker\n1,{name}\n2,c\n")
    with pytest.raises(DatasetError, match=f"{name} in Train and Test"):
        check_dataset(folder)


def test_the_columns_of_the_readme(folder):
    write(folder, "index, speakers, SIR, SNR, sources\n1, kim;lee, -2.5, 10, a.wav\n2, park, 3,, b.wav\n")
    manifest = read_manifest(folder, "Test")
    assert manifest["index"].tolist() == [1, 2] and manifest["speaker"].tolist() == ["kim", "park"]
    assert manifest["interferers"].tolist() == [["lee"], []] and manifest["sir_db"].tolist() == [-2.5, 3.0]
    assert manifest["snr_db"].isna().tolist() == [False, True]


def test_two_names_with_a_comma_in_a_product_made_manifest_stay_one(folder):
    write(folder, 'index,speaker,interferers\n1,"Kim, Lee","[""Park; Choi""]"\n2,b,[]\n')
    manifest = read_manifest(folder, "Test")
    assert manifest["speaker"][0] == "Kim, Lee" and manifest["interferers"][0] == ["Park; Choi"]


def test_a_clean_that_is_silence_needs_the_manifest_to_say_so(folder):
    path = folder / "Test_Dataset" / "Clean" / "clean_000001.wav"
    audio.write(path, np.zeros(SR))
    with pytest.raises(DatasetError, match=r"clean_000001.wav: the clean is silent"):
        check_dataset(folder)
    with pytest.raises(DatasetError, match="index 1: .*clean is silent"):
        open_dataset(folder, "Test")[0]
    write(folder, "index,speaker,speaks\n1,kim,no\n2,lee,yes\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(check_dataset(folder)) == 4 and not open_dataset(folder, "Test")[0]["target"].any()


@pytest.mark.parametrize("text, value", [("1.5", 1.5), (" -2 ", -2.0), ("0,5", 0.5), ("1e-3", 0.001)])
def test_numbers_with_a_point_or_a_comma(text, value):
    assert tables.number(text, "here") == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "x", "1,2,3"])
def test_what_is_no_number_is_said(text):
    with pytest.raises(tables.TableError, match="here: expected a number"):
        tables.number(text, "here")
