"""A simulated room (pyroomacoustics, image-source method): one microphone, each speaker at a place of their own.

Waves are float32 `(samples,)`; distances in metres, times in seconds.
"""

import numpy as np

MARGIN = 0.5  # m from the walls
MAX_ORDER = 12  # reflections followed; later ones are weak at these absorptions and cost most of the time


def draw(rng, sources):
    """A random room as plain values: size (m), reverberation time (s), place of the microphone and of `sources`
    speakers.
    """
    size = [round(float(rng.uniform(*span)), 2) for span in ((4.0, 8.0), (3.5, 6.0), (2.5, 3.2))]
    places = rng.uniform(MARGIN, np.array(size) - MARGIN, (1 + sources, 3))
    places[:, 2] = rng.uniform(1.1, 1.8, 1 + sources)  # the height of a sitting or standing head
    places = [[round(float(x), 2) for x in place] for place in places]
    return dict(size=size, rt60=round(float(rng.uniform(0.15, 0.45)), 3), microphone=places[0], sources=places[1:])


def place(waves, room, sr):
    """What the microphone of `room` hears of each of `waves` alone, reverberation included, cut to the waves' own
    length.
    """
    try:
        import pyroomacoustics
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a simulated room needs pyroomacoustics: pip install pyroomacoustics, or set room_share=0."
        ) from error
    from scipy.signal import fftconvolve

    absorption, _ = pyroomacoustics.inverse_sabine(room["rt60"], room["size"])
    shoebox = pyroomacoustics.ShoeBox(
        room["size"], fs=sr, materials=pyroomacoustics.Material(absorption), max_order=MAX_ORDER
    )
    for source in room["sources"]:
        shoebox.add_source(source)
    shoebox.add_microphone(room["microphone"])
    shoebox.compute_rir()
    return [
        fftconvolve(wave, response)[: len(wave)].astype(np.float32) for wave, response in zip(waves, shoebox.rir[0])
    ]
