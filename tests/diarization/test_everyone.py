"""Everybody who speaks, each in a file of their own."""

import pytest
import soundfile

from lib.diarization import everyone, protocols
from lib.diarization.rttm import read_rttm


def test_a_real_talk_of_two_gives_two_files(tmp_path, capsys):
    wave = protocols.real_sample()["waveform"][0].numpy()
    soundfile.write(tmp_path / "talk.flac", wave, 16000)
    given = [str(tmp_path / "talk.flac"), "-o", str(tmp_path / "out"), "--people", "2"]
    assert everyone.main(given) == 0
    names = {turn.speaker for turn in read_rttm(tmp_path / "out" / "who.rttm")["talk"]}
    assert names == {"SPEAKER_00", "SPEAKER_01"}
    for name in names:
        voice, sr = soundfile.read(tmp_path / "out" / f"{name}.wav")
        assert sr == 16000 and len(voice) == len(wave)
        assert (tmp_path / "out" / f"{name}.rttm").is_file() and (tmp_path / "out" / f"{name}.png").is_file()
    said = capsys.readouterr().out
    assert said.count(": speaks for ") == 2 and "The person was heard for" in said
    assert everyone.main(given) == 1 and "has files in it" in capsys.readouterr().err


@pytest.mark.parametrize("name, says", [("none.wav", "no such file"), ("notes.txt", "cannot be decoded")])
def test_errors_are_one_sentence(tmp_path, capsys, name, says):
    (tmp_path / "notes.txt").write_text("no sound")
    assert everyone.main([str(tmp_path / name), "-o", str(tmp_path / "out")]) == 1
    assert says in capsys.readouterr().err
