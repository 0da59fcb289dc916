"""One's own clips: every format that can be read counts, and a folder without one is named at once."""

import numpy as np
import pytest
import soundfile

from lib.speakers import clips

WAVE = 0.2 * np.sin(np.arange(3 * 48000) * 0.03)


@pytest.mark.parametrize("name", ["me.opus", "me.OGG", "deep/me.wav", "me.aiff"])
def test_every_format_and_folders_below_count(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    kind = dict(format="OGG", subtype="OPUS") if name.lower().endswith(("opus", "ogg")) else {}
    soundfile.write(path, WAVE, 48000, **kind)
    with pytest.warns(UserWarning, match="converted"):
        assert clips.read_clips(clips.clips_in(tmp_path)).shape == (1, 64000)


def test_no_usable_clip_is_said(tmp_path):
    with pytest.raises(clips.SpeakersError, match="holds no recording .*wav.*opus.*Put two clips"):
        clips.clips_in(tmp_path)
    with pytest.raises(clips.SpeakersError, match="no such folder"):
        clips.clips_in(tmp_path / "nowhere")
    for read in (clips.read_clips, clips.clips_of_waves):
        with pytest.raises(clips.SpeakersError, match="no clip is given"):
            read({})
