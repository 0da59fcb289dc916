"""Debian packages and wheels made on the spot, and who is held out of the real ones."""

import io
import tarfile
import zipfile

import numpy as np
import soundfile
from made_voices import syllables

SR = 16000
# Once held out, for ever: what the starter was trained on must not come to Test, nor the reverse.
HELD_OUT = {
    "Val": {
        "asterisk-carlo",
        "klettres-fr",
        "klettres-ru",
        "ktuberling-de",
        "ktuberling-el",
        "ktuberling-lt",
        "tuxpaint-el",
        "tuxpaint-fr-2",
    },
    "Test": {
        "asterisk-armelle",
        "asterisk-jimenez",
        "klettres-hu",
        "klettres-lt",
        "klettres-nds",
        "ktuberling-gl",
        "ktuberling-sl",
        "ktuberling-wa",
        "tuxpaint-bg",
        "tuxpaint-ca-2",
        "tuxpaint-da",
    },
}


def speech(seed, seconds=1.0):
    return syllables(np.random.default_rng(seed), 100 + 20 * seed, seconds)


def silence(seconds):
    return np.zeros(int(seconds * SR), dtype=np.float32)


def make_wheel(folder, name, file, content):
    """A wheel of the package `name`, version 1.0, with `content` (bytes) as `file` in it; how pip names it."""
    underscored = name.replace("-", "_")
    info = f"{underscored}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{underscored}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(file, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return f"{name}==1.0"


def make_deb(path, files):
    """A .deb with `files` (name -> bytes) below ./usr/share."""

    def tar(members):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return buffer.getvalue()

    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": tar({"./control": b"Package: made\n"}),
        "data.tar.xz": tar({f"./usr/share/{name}": content for name, content in files.items()}),
    }
    with open(path, "wb") as file:
        file.write(b"!<arch>\n")
        for name, content in parts.items():
            file.write(
                f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
                + content
                + b"\n" * (len(content) % 2)
            )


def encoded(wave, suffix="wav", sr=SR):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, sr, format=suffix.upper())
    return buffer.getvalue()
