"""Recordings that lie inside one file of a package: the speech of two adventure games. Bytes in, (name, bytes) out."""

import io
import struct
import zipfile

CONTAINERS = (".uqm", "/queen.1c")  # how their names end


def inside(name, data):
    """(name, bytes) of each recording inside the file `name` with the bytes `data`; of the file itself where it is no
    container.
    """
    if name.endswith(".uqm"):  # The Ur-Quan Masters: a zip archive of Ogg Vorbis
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for inner in archive.namelist():
                if inner.endswith(".ogg"):
                    yield f"{name}/{inner}", archive.read(inner)
    elif data[:4] == b"QTBL":  # Flight of the Amazon Queen, as ScummVM packs it: MP3 behind a table of contents
        (count,) = struct.unpack(">H", data[13:15])
        for at in range(15, 15 + 21 * count, 21):  # name (12 bytes), bundle, offset, size
            inner, (offset, size) = (
                data[at : at + 12].rstrip(b"\0").decode("latin-1"),
                struct.unpack(">II", data[at + 13 : at + 21]),
            )
            if inner.endswith(".SB"):
                yield f"{name}/{inner[:-3]}.mp3", data[offset : offset + size]
    else:
        yield name, data
