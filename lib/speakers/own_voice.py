"""Your own voice as a new class: record or upload a few clips, teach the head, see the scores. Waves are float32 at 16
kHz.
"""

import html
import time

import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, display

from lib import listening
from lib.speakers import clips as speakers
from lib.speakers.training import add_person, features

RECORDER = """<button id="rec">record</button> <button id="end" disabled>stop</button> <span id="kept"></span><script>
(() => { let box, parts = [], count = 0; const get = id => document.getElementById(id);
get('rec').onclick = async () => { try { const mic = await navigator.mediaDevices.getUserMedia({audio: true});
  box = new MediaRecorder(mic); parts = []; box.ondataavailable = e => parts.push(e.data);
  box.onstop = () => { mic.getTracks().forEach(t => t.stop()); const a = document.createElement('a');
    a.href = URL.createObjectURL(new Blob(parts, {type: box.mimeType}));
    a.textContent = a.download = `me_${++count}.webm`;
    get('kept').append(a, ' '); a.click(); };
  box.start(); get('rec').disabled = true; get('end').disabled = false; }
  catch (error) { get('kept').textContent =
    'No microphone here (' + error.name + '): record with any other program and upload.'; } };
get('end').onclick = () => { box.stop(); get('rec').disabled = false; get('end').disabled = true; }; })();
</script>"""


def recorder():
    """Two buttons that record from the browser's microphone and save each clip as a file, to be uploaded below.

    Nothing is sent anywhere.
    """
    return HTML(RECORDER)


class Newcomer:
    """Somebody added to a trained head.

    `answers(clips)` names clips, `seconds` is what learning took from waves to weights.
    """

    def __init__(self, name, clips, backbone, head, people, old, old_labels, prepare=lambda waves: waves, seed=0):
        started = time.perf_counter()
        if name in people:
            raise speakers.SpeakersError(
                f"{name}: there is already a person of that name among the {len(people)} known. Choose another name."
            )
        self.backbone, self.people, self.prepare = backbone, [*people, name], prepare
        self.head = add_person(
            head, features(backbone, prepare(clips), progress=False, cache=False), old, old_labels, seed=seed
        )
        self.seconds = time.perf_counter() - started

    @torch.no_grad()
    def answers(self, clips, best=3):
        """A row a clip: the `best` most probable people with their probabilities."""
        chances = self.head(features(self.backbone, self.prepare(clips), progress=False, cache=False)).softmax(1)
        top = chances.topk(min(best, len(self.people)))
        return pd.DataFrame(
            [
                {
                    "clip": number,
                    **{
                        f"{rank}.": f"{self.people[place]} ({share:.0%})"
                        for rank, (place, share) in enumerate(zip(places.tolist(), shares.tolist()), start=1)
                    },
                }
                for number, (places, shares) in enumerate(zip(top.indices, top.values), start=1)
            ]
        )


def upload_clips(learn, accept=".wav,.flac,.mp3,.ogg,.m4a,.opus,.aac,.webm"):
    """A field for several files and a button that displays what `learn(clips)` returns, for clips `(n, samples)` cut
    from all files.
    """
    import ipywidgets

    field = ipywidgets.FileUpload(accept=accept, multiple=True, description="clips")
    button, output = ipywidgets.Button(description="learn", button_style="primary"), ipywidgets.Output()

    def on_click(_):
        output.clear_output()
        with output:
            try:
                if not field.value:
                    raise speakers.SpeakersError("choose at least two files of your voice, a second or longer each.")
                waves = {name: listening.read_bytes(content, name) for content, name in listening.uploads(field)}
                display(learn(speakers.clips_of_waves(waves)))
            except ValueError as error:
                display(HTML(f"<p><b>This does not work:</b> {html.escape(str(error))}</p>"))

    button.on_click(on_click)
    display(ipywidgets.HBox([field, button]), output)


def taught_and_asked(clips):
    """The first two thirds of a person's clips to learn from, the rest to be asked about.

    Raises `SpeakersError` for a single clip.
    """
    if len(clips) < 2:
        raise speakers.SpeakersError(
            "a single clip cannot teach and be asked about. Give two files, or one of more than six seconds."
        )
    split = max(1, (2 * len(clips)) // 3)
    return clips[:split], np.asarray(clips[split:])
