"""Is a file of sound whole? What its own header announces against its size; nothing is decoded."""

import struct

GIT_LFS = b"version https://git-lfs.github.com/spec/"  # how the text begins that stands for a file not fetched yet
STREAMED = 0x7FFFF000  # sizes from here on (and 0) stand in headers of streams, which were written without knowing
SLACK = 64  # bytes that a header may announce too many


def cut_off(path):
    """How much less than its header announces the file holds, in words; None where it is whole, or no header tells."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] in (b"RIFF", b"FORM"):
            little = head[:4] == b"RIFF"
            return _short_chunk(file, size, "<4sI" if little else ">4sI", b"data" if little else b"SSND")
        if head[:4] == b".snd":
            at, length = struct.unpack(">II", head[4:12])
            short = 0 < length < STREAMED and at + length > size + SLACK
            return f"its header announces {length} bytes, but it holds {size - at}" if short else None
        if head[:4] in (b"riff", b"caff"):
            return _short_long_chunk(file, size, head[:4] == b"riff")
        if head[:4] == b"OggS":
            file.seek(max(0, size - 70000))  # a page holds at most 65,307 bytes
            tail = file.read()
            page = tail[tail.rfind(b"OggS") :]
            lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
            whole = len(page) > 26 and len(lengths) == page[26] and len(page) >= 27 + page[26] + sum(lengths)
            return None if whole else "its last page is incomplete"
        if path.suffix.lower() == ".mp3" or head[:3] == b"ID3":
            return _short_mp3(file, size, head)
    return None


def _short_chunk(file, size, form, wanted):
    """The chunk of samples in a wav (RIFF) or aiff (FORM) against the file's `size`."""
    rate = None
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack(form, header)
        at = file.tell()
        if name == b"fmt ":
            rate = struct.unpack("<I", file.read(12)[8:])[0]  # bytes a second
        if name == wanted:
            if not 0 < length < STREAMED or at + length <= size + SLACK:
                return None
            told = [f"{part / rate:.2f} s" if rate else f"{part} bytes" for part in (length, size - at)]
            return f"its header announces {told[0]}, but it holds {told[1]}"
        file.seek(at + length + length % 2)
    return None


def _short_long_chunk(file, size, w64):
    """The same in a file whose chunks have sizes of 64 bits: w64 (its own header counts), or caf."""
    file.seek(40 if w64 else 8)
    form, names = ("<16sQ", 24) if w64 else (">4sq", 12)
    while len(header := file.read(names)) == names:
        name, length = struct.unpack(form, header)
        length -= 24 * w64
        at = file.tell()
        if name[:4] == b"data":
            short = 0 < length < 2**62 and at + length > size + SLACK
            return f"its header announces {length} bytes, but it holds {size - at}" if short else None
        if length < 0:
            return None
        file.seek(at + length + (-length % 8 if w64 else 0))
    return None


def _short_mp3(file, size, head):
    """The count of bytes that an mp3's first frame may tell (Xing or Info) against the file's `size`."""
    start = 0
    if head[:3] == b"ID3":
        start = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0)))
    file.seek(start)
    frame = file.read(200)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0:
        return None
    (flags,) = struct.unpack(">I", frame[at + 4 : at + 8])
    if not flags & 2:
        return None
    (told,) = struct.unpack(">I", frame[at + 8 + 4 * (flags & 1) :][:4])
    if start + told <= size + max(2000, 0.01 * told):  # some writers leave the first frame out, or count it twice
        return None
    return f"its header announces {told} bytes, but it holds {size - start}"


def is_lfs_pointer(path):
    """Whether the file is the text that git-lfs leaves in place of a recording that was not fetched."""
    with open(path, "rb") as file:
        return file.read(len(GIT_LFS)) == GIT_LFS
