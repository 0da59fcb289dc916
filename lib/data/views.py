"""The picture of a place (`lib.data.places`)."""

import matplotlib.pyplot as plt
import numpy as np


def place(place, seats, response, noise, sr=16000):
    """A place in three pictures: its room from above, the decay of a response, and the spectra of noise and device.

    place: a `lib.data.places.Place`. seats: split -> {"target", "other"} -> `(seats, 3)` in m. response: `(taps,)` at
    `sr`, or None without a room. noise: `(samples,)`.
    """
    figure, (room, decay, spectra) = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
    room.add_patch(plt.Rectangle((0, 0), place.size[0], place.size[1], fill=False, linewidth=1.5))
    room.plot(*place.microphone[:2], "k^", markersize=9, label="microphone")
    for color, (split, groups) in zip(("tab:blue", "tab:orange", "tab:green"), seats.items()):
        for who, marker in (("target", "o"), ("other", "x")):
            room.plot(*groups[who][:, :2].T, marker, color=color, markersize=5, label=f"{split}, {who}")
    room.set(title=f"{place.name}, from above", xlabel="m", ylabel="m", aspect="equal")
    room.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    if response is not None:
        times = 1000 * np.arange(len(response)) / sr
        energy = np.cumsum(np.square(response[::-1], dtype=float))[::-1]
        decay.plot(times, 20 * np.log10(np.abs(response) / np.abs(response).max() + 1e-6), linewidth=0.4, alpha=0.5)
        decay.plot(times, 10 * np.log10(energy / energy[0] + 1e-9), color="tab:red", label="energy still to come")
        decay.set(ylim=(-70, 3), xlim=(0, min(times[-1], 1500 * place.rt60)))
        decay.legend(fontsize=8)
    decay.set(title=f"A clap at one seat, RT60 {place.rt60:g} s", xlabel="ms", ylabel="dB")
    bins = np.abs(np.fft.rfft(noise.reshape(-1, 1600), axis=1)).mean(0)
    hz = np.fft.rfftfreq(1600, 1 / sr)
    spectra.plot(hz, 20 * np.log10(bins / bins.max() + 1e-6), linewidth=0.8, label="noise")
    if place.device.curve:
        spectra.plot(*np.array(place.device.curve).T, color="tab:red", label="device lets through")
    spectra.set(title="Noise and device", xlabel="Hz", ylabel="dB", ylim=(-80, 10), xlim=(0, sr / 2))
    spectra.legend(fontsize=8)
    plt.close(figure)
    return figure
