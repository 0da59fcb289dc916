"""Songs in stems made on the spot, in this workbook's own layout and in miniature trees of the data sets' layouts."""

import json

import numpy as np
import soundfile

STEMS = ("vocals", "drums", "bass", "other")


def stems(seconds=3.0, sr=22050, seed=0, channels=2):
    """dict stem -> `(samples, channels)`: a voice-like buzz with a pause at its start, clicks, a low and a middle
    tone.
    """
    rng, time = np.random.default_rng(seed), np.arange(int(seconds * sr)) / sr
    pitch = rng.uniform(120, 240)
    waves = {
        "vocals": 0.1 * sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 12)) * (time > seconds / 3),
        "drums": 0.3 * rng.standard_normal(len(time)) * np.exp(-(time % 0.5) * 40),
        "bass": 0.2 * np.sin(2 * np.pi * rng.uniform(50, 90) * time),
        "other": 0.1 * np.sin(2 * np.pi * rng.uniform(500, 900) * time),
    }
    pan = rng.uniform(0.6, 1.0, (4, channels))
    return {name: (wave[:, None] * pan[k]).astype(np.float32) for k, (name, wave) in enumerate(waves.items())}


def write(path, wave, sr=22050):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, sr, subtype="PCM_16")


def plain(root, counts=None, sr=22050, seconds=3.0, names="song"):
    """`root/{split}/<song>/{mixture,vocals,drums,bass,other}.wav`."""
    for number, split in enumerate(
        split for split, count in (counts or {"train": 3, "validation": 1, "test": 1}).items() for _ in range(count)
    ):
        parts = stems(seconds, sr, number)
        for name, wave in {**parts, "mixture": sum(parts.values())}.items():
            write(root / split / f"{names} {number}" / f"{name}.wav", wave, sr)
    return root


def moisesdb(root, count=10):
    """`root/moisesdb_v0.1/<id>/data.json` with `<stem>/<track>.wav`; no mixture, percussion apart from drums, a
    piano.
    """
    for number in range(count):
        folder, parts = root / "moisesdb_v0.1" / f"id-{number}", stems(1.0, 44100, number)
        kinds = {
            "vocals": ["vocals"],
            "drums": ["drums"],
            "percussion": ["drums"],
            "bass": ["bass"],
            "piano": ["other"],
        }
        about = {"song": f"Song {number}", "artist": "Someone", "genre": "rock", "stems": []}
        for kind, (own,) in kinds.items():
            write(folder / kind / f"track-{kind}.wav", parts[own], 44100)
            about["stems"].append(
                {
                    "id": kind,
                    "stemName": kind,
                    "tracks": [{"id": f"track-{kind}", "trackType": "x", "extension": "wav"}],
                }
            )
        (folder / "data.json").write_text(json.dumps(about))
    return root


def slakh(root):
    """`root/{train,validation,test}/Track0000N/{metadata.yaml,mix.flac,stems/S00.flac}`; the last listed stem was never
    rendered.
    """
    for number, split in enumerate(("train", "train", "validation", "test")):
        folder, parts = root / split / f"Track{number:05d}", stems(1.0, 44100, number, channels=1)
        own = [("Drums", True, "drums"), ("Bass", False, "bass"), ("Piano", False, "other"), ("Guitar", False, None)]
        lines = ["UUID: abc", "stems:"]
        for place, (kind, drum, name) in enumerate(own):
            lines += [
                f"  S{place:02d}:",
                f"    inst_class: {kind}",
                f"    is_drum: {str(drum).lower()}",
                "    program_num: 0",
            ]
            if name:
                write(folder / "stems" / f"S{place:02d}.flac", parts[name], 44100)
        write(folder / "mix.flac", sum(parts[name] for *_, name in own if name), 44100)
        (folder / "metadata.yaml").write_text("\n".join(lines) + "\n")
    return root
