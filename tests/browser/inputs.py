"""What a reader brings: files of every kind that people choose, made small; each with what the page must say of it."""

import math
import random
import struct
import wave
from pathlib import Path

import numpy as np
import soundfile


def sound(path, seconds, sr=16000, channels=1):
    """A wav file of something like speech: a buzz of 140 Hz in syllables over faint noise."""
    rng, frames = random.Random(0), bytearray()
    for k in range(sr):  # one second, repeated
        syllable = max(0.0, math.sin(2 * math.pi * 4 * k / sr))
        buzz = sum(math.sin(2 * math.pi * 140 * n * k / sr) / n for n in range(1, 12))
        frames += struct.pack("<h", int(6000 * syllable * buzz + rng.gauss(0, 60))) * channels
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(sr)
        for _ in range(seconds):
            file.writeframes(bytes(frames))
    return str(path)


def make(folder):
    """The files in `folder`. A list of dicts: file, facts (a pattern of what the page says as soon as it is chosen) and
    answer (a pattern of what it says once it is worked on; None: players).
    """
    folder = Path(folder)
    good = soundfile.read(sound(folder / "good.wav", 6), dtype="float32")[0]
    (folder / "notes.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is no sound")
    (folder / "pointer.wav").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb\nsize 12345\n"
    )
    soundfile.write(folder / "silent.wav", np.zeros(96000, np.float32), 16000)
    soundfile.write(folder / "zero.wav", np.zeros(0, np.float32), 16000)
    soundfile.write(folder / "eight.wav", np.stack([good, good], 1), 16000, subtype="PCM_U8")
    soundfile.write(folder / "song.mp3", good, 16000)
    soundfile.write(folder / "김 é 目.wav", good, 16000)
    return [
        {
            "file": "notes.pdf",
            "facts": r"MB, notes\.pdf: \S+",
            "answer": r"does not work.*notes\.pdf",
        },
        {"file": "empty.wav", "facts": r"empty\.wav: the file is empty", "answer": r"does not work.*empty\.wav"},
        {"file": "text.wav", "facts": r"text\.wav: cannot be decoded", "answer": r"does not work.*text\.wav"},
        {"file": "pointer.wav", "facts": r"pointer\.wav: .*git lfs pull", "answer": r"does not work.*git lfs pull"},
        {"file": "zero.wav", "facts": r"zero\.wav: .*no audio samples", "answer": r"does not work.*zero\.wav"},
        {"file": "silent.wav", "facts": r"6\.0 s, silent: was the microphone on", "answer": r"Note: mix: silent"},
        {"file": "eight.wav", "facts": r"eight\.wav, 0\.19 MB, 6\.0 s", "answer": None},
        {"file": "song.mp3", "facts": r"song\.mp3, 0\.0\d MB, 6\.\d s", "answer": None},
        {"file": "김 é 目.wav", "facts": r"김 é 目\.wav, 0\.19 MB, 6\.0 s", "answer": None},
    ]
