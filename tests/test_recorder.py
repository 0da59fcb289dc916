"""The recorder in a real browser: headless Chromium with a microphone that plays a file; skipped without one."""

import http.server
import json
import shutil
import subprocess
import tempfile
import threading
import wave
from pathlib import Path

import numpy as np
import pytest

from lib.listening import recording

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
SCRIPT = Path(recording.__file__).with_name("recorder.js")
HZ, RECORDED = 440, 1.5  # of the microphone's tone; s between the two presses
PAGE = """<!DOCTYPE html><div id="here"></div><script type="module">
import recorder from "/recorder.js";
const state = { pcm: null, label: "record it", seconds: 20 };
const el = document.getElementById("here"), heard = [];
const model = { get: (name) => state[name], set: (name, value) => { state[name] = value; }, save_changes: send };
const words = () => el.querySelector("span").textContent;
const tell = (what) => fetch("/said", { method: "POST", body: JSON.stringify(what) });
async function send() {
  await fetch("/pcm", { method: "POST", body: state.pcm.buffer });
  setTimeout(() => tell({ words: words(), button: el.querySelector("button").textContent,
    level: Math.max(...heard), players: el.querySelectorAll("audio[aria-label]").length }), 300);
}
recorder.render({ model, el });
const button = el.querySelector("button");
button.click();
const wait = setInterval(() => {
  heard.push(el.querySelector("meter").value);
  if (button.textContent === "stop" && heard.length > MILLISECONDS / 50) { clearInterval(wait); button.click(); }
  else if (/No microphone|not allowed|does not work/.test(words())) { clearInterval(wait); tell({ words: words() }); }
}, 50);
</script>""".replace("MILLISECONDS", str(1000 * RECORDED))


def tone(path):
    time = np.arange(48000 * 5) / 48000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes((8000 * np.sin(2 * np.pi * HZ * time)).astype("<i2").tobytes())
    return path


def drive(*arguments, seconds=60):
    """What the page sends, `{"/pcm": bytes, "/said": dict}`, once the browser has been started with `arguments`."""
    came, done = {}, threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            script = self.path == "/recorder.js"
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript" if script else "text/html")
            self.end_headers()
            self.wfile.write(SCRIPT.read_bytes() if script else PAGE.encode())

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came[self.path] = json.loads(body) if self.path == "/said" else body
            self.send_response(204)
            self.end_headers()
            if self.path == "/said":
                done.set()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
        options += ["--autoplay-policy=no-user-gesture-required", f"--user-data-dir={folder}", *arguments]
        address = f"http://127.0.0.1:{server.server_port}/"
        browser = subprocess.Popen([BROWSER, *options, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert done.wait(seconds), "the page did not answer"
        finally:
            browser.terminate()
            browser.wait(20)
            server.shutdown()
    return came


needs_a_browser = pytest.mark.skipif(
    not BROWSER, reason=f"none of {', '.join(BROWSERS)} is installed, which the recorder is tried in"
)


@needs_a_browser
def test_what_the_microphone_hears_arrives_at_16_khz(tmp_path):
    came = drive(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={tone(tmp_path / 'tone.wav')}",
    )
    heard = np.frombuffer(came["/pcm"], "<f4")
    assert 0.5 * RECORDED < len(heard) / recording.SR < 4 * RECORDED and np.abs(heard).max() <= 1
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert abs(spectrum.argmax() * recording.SR / len(heard) - HZ) < 5  # another rate would be another tone
    assert came["/said"]["level"] > 0.01 and came["/said"]["players"] == 1
    assert came["/said"]["button"] == "record it again" and "s recorded" in came["/said"]["words"]


@needs_a_browser
def test_without_a_microphone_one_sentence_says_so():
    said = drive("--use-fake-ui-for-media-stream")["/said"]["words"]
    assert said.startswith("No microphone was found.") and said.endswith("and upload.")
