// The page's side of `recording.Recorder`: microphone -> MediaRecorder -> 16 kHz mono float32 -> `pcm` in Python.
const RATE = 16000;

function wav(pcm) {
  // what Python has, as a file that a player takes
  const samples = new Float32Array(pcm.buffer.slice(pcm.byteOffset, pcm.byteOffset + pcm.byteLength));
  const file = new DataView(new ArrayBuffer(44 + 4 * samples.length));
  const text = (at, letters) => [...letters].forEach((one, k) => file.setUint8(at + k, one.charCodeAt(0)));
  text(0, "RIFF"); file.setUint32(4, 36 + 4 * samples.length, true); text(8, "WAVEfmt ");
  file.setUint32(16, 16, true); file.setUint16(20, 3, true); file.setUint16(22, 1, true); // 3: float samples
  file.setUint32(24, RATE, true); file.setUint32(28, 4 * RATE, true); file.setUint16(32, 4, true);
  file.setUint16(34, 32, true); text(36, "data"); file.setUint32(40, 4 * samples.length, true);
  samples.forEach((value, k) => file.setFloat32(44 + 4 * k, value, true));
  return new Blob([file], { type: "audio/wav" });
}

async function mono(blob) {
  // any format the browser records, decoded at RATE; channels averaged
  const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await blob.arrayBuffer());
  const sum = new Float32Array(decoded.length);
  for (let c = 0; c < decoded.numberOfChannels; c++)
    decoded.getChannelData(c).forEach((value, k) => { sum[k] += value / decoded.numberOfChannels; });
  return new DataView(sum.buffer);
}

function why(error) {
  const known = {
    NotAllowedError: "The browser was not allowed to use the microphone.",
    NotFoundError: "No microphone was found.",
    NotReadableError: "The microphone is in use by another program.",
  };
  return `${known[error.name] || `Recording does not work here (${error.name}).`} Record with any other program, and upload.`;
}

function render({ model, el }) {
  el.innerHTML = `<div style="display:flex;align-items:center;gap:8px;flex-wrap:wrap">
    <button class="jupyter-button widget-button" type="button" style="width:auto"></button>
    <meter min="0" max="1" low="0.02" high="0.95" optimum="0.3" value="0" style="width:90px"></meter>
    <span role="status" style="min-width:5em"></span></div>`;
  const [button, meter, said] = ["button", "meter", "span"].map((name) => el.querySelector(name));
  meter.setAttribute("aria-label", `level of the microphone, ${model.get("label")}`);
  let box = null, audio = null, address = null;

  function hear() {
    const pcm = model.get("pcm");
    if (address) URL.revokeObjectURL(address);
    if (audio) audio.remove();
    audio = address = null;
    const some = pcm && pcm.byteLength;
    button.textContent = `${model.get("label")}${some ? " again" : ""}`;
    if (!some) return;
    audio = document.createElement("audio");
    Object.assign(audio, { controls: true, preload: "metadata", src: (address = URL.createObjectURL(wav(pcm))) });
    audio.setAttribute("aria-label", `what was recorded: ${model.get("label")}`);
    audio.style.cssText = "height:32px;width:220px";
    audio.onplay = () => document.querySelectorAll("audio").forEach((one) => { if (one !== audio) one.pause(); });
    said.before(audio);
    said.textContent = `${(pcm.byteLength / 4 / RATE).toFixed(1)} s recorded`;
  }

  function watch(stream) {
    // the level, ten times a second, and the seconds that are left; the last of them ends the recording
    const context = new AudioContext(), ear = context.createAnalyser(), began = Date.now();
    context.createMediaStreamSource(stream).connect(ear);
    const piece = new Float32Array(ear.fftSize);
    const timer = setInterval(() => {
      ear.getFloatTimeDomainData(piece);
      meter.value = Math.max(...piece.map(Math.abs));
      const left = model.get("seconds") - (Date.now() - began) / 1000;
      said.textContent = `${Math.max(0, left).toFixed(0)} s left`;
      if (left <= 0) stop();
    }, 100);
    return () => { clearInterval(timer); context.close(); meter.value = 0; };
  }

  const stop = () => { if (box && box.state === "recording") box.stop(); };

  async function start() {
    try {
      if (!navigator.mediaDevices) throw { name: "no secure page: https or localhost" };
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      const parts = [], end = watch(stream);
      box = new MediaRecorder(stream);
      box.ondataavailable = (event) => parts.push(event.data);
      box.onstop = async () => {
        end();
        stream.getTracks().forEach((track) => track.stop());
        said.textContent = "one moment";
        try {
          model.set("pcm", await mono(new Blob(parts, { type: box.mimeType })));
          model.save_changes();
        } catch (error) { said.textContent = why(error); }
        hear();
      };
      box.start();
      button.textContent = "stop";
    } catch (error) { said.textContent = why(error); }
  }

  button.onclick = () => (box && box.state === "recording" ? stop() : start());
  hear();
  return () => { stop(); if (address) URL.revokeObjectURL(address); };
}

export default { render };
