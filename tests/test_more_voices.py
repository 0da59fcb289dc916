"""What pretraining hears beside the Debian voices: recordings inside game files, and synthesised voices; made on the spot."""
import io
import struct
import zipfile

import pytest

from lib import audio
from lib.data import debian, spoken
from lib.data.containers import inside
from made_voices import syllables
from test_voices import HELD_OUT, SR, cache, encoded, make_deb, speech  # noqa: F401  (cache is a fixture)


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
    assert dict(inside("/x/queen.1c", queen({"020001J1.SB": b"first", "020001P2.SB": b"second one", "ROOM.ACT": b"no speech"}))) == {
        "/x/queen.1c/020001J1.mp3": b"first", "/x/queen.1c/020001P2.mp3": b"second one"}
    assert dict(inside("/x/a.uqm", zipped({"voice/vux/1.ogg": b"one", "voice/list.txt": b"no"}))) == {"/x/a.uqm/voice/vux/1.ogg": b"one"}
    assert dict(inside("/x/a.wav", b"RIFF")) == {"/x/a.wav": b"RIFF"}


def test_a_package_with_such_files_becomes_a_table_of_voices(cache, tmp_path):  # noqa: F811
    folder = cache / "debian" / "packages"
    folder.mkdir(parents=True)
    make_deb(folder / "game_1.0_all.deb", {
        "game/queen.1c": queen({"020001J1.SB": encoded(speech(1), "mp3"), "020001P2.SB": encoded(speech(2), "mp3"), "CUT_0001.SB": encoded(speech(3), "mp3")}),
        "game/sound.uqm": zipped({"voice/vux/1.ogg": encoded(speech(4), "ogg"), "voice/orz/1.ogg": encoded(speech(5), "ogg")})})
    table = tmp_path / "table.csv"
    table.write_text("speaker,package,pattern,language,sex,licence,split,note\njoe,game,*/queen.1c/[0-9][0-9]????J*.mp3,en,M,CC0,Train,\n"
                     "lola,game,*/queen.1c/02????P*.mp3,en,F,CC0,Train,\nvux,game,*/vux/*.ogg,en,M,CC0,Train,\n")
    found = debian.load(progress=False, table=table, workers=1)
    assert sorted(found.speaker) == ["joe", "lola", "vux"] and found.seconds.between(0.7, 1.2).all()


def test_a_damaged_game_file_is_named(cache, tmp_path):  # noqa: F811
    folder = cache / "debian" / "packages"
    folder.mkdir(parents=True)
    make_deb(folder / "game_1.0_all.deb", {"game/sound.uqm": b"no zip archive", "game/a.txt": b""})
    table = tmp_path / "table.csv"
    table.write_text("speaker,package,pattern,language,sex,licence,split,note\nvux,game,*/vux/*.ogg,en,M,CC0,Train,\n")
    with pytest.raises(debian.VoicesError, match="game_1.0_all.deb: the package is damaged"):
        debian.load(progress=False, table=table, workers=1)


def test_actors_are_heard_in_training_alone_and_are_nobody_of_the_other_table():
    acted = debian.curated(debian.ACTED)
    assert set(acted.split) == {"Train"} and set(acted.sex) <= {"F", "M"} and (acted.licence != "").all() and acted.speaker.nunique() > 40
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
    with pytest.raises(debian.VoicesError, match="espeak-ng, mbrola, RHVoice-test.*apt-get install .* --voices debian acted"):
        spoken.load()


def test_a_voice_that_says_nothing_is_named(cache, monkeypatch):  # noqa: F811
    monkeypatch.setattr(spoken.shutil, "which", lambda name: name)
    monkeypatch.setattr(spoken.Path, "is_file", lambda path: path.name == "iso_639-3.mo" or path.exists())
    monkeypatch.setattr(spoken, "_names", lambda language: ["one", "two"])
    say = lambda text, wav, rng: audio.write(wav, syllables(rng, 120, 2.0), SR)  # noqa: E731
    monkeypatch.setattr(spoken, "available", lambda: [("loud", say, "de"), ("mute", lambda *_: None, "de")])
    with pytest.warns(UserWarning, match="^mute: said nothing"):
        found = spoken.load(seconds=3.0)
    assert set(found.speaker) == {"loud"} and len(found) == 2 and set(found.split) == {"Train"}
