"""A file a person, without any enrollment: `python -m lib.diarization.everyone MIX [-o FOLDER] [--people N]`.

Chapter 4's pipeline finds who speaks when, with pyannote's public model. The longest stretches in which each person
talks alone are the enrollment, and each is extracted as `lib.evaluation.extract` does it: `FOLDER/<name>.wav` with a
timeline, and `FOLDER/who.rttm`, what the pipeline found. Finding who speaks needs the whole recording in memory: 230 MB
an hour, and several times that while it works.
"""

import argparse
import sys
import warnings
from pathlib import Path

from lib import audio
from lib.diarization import models, pipeline, use
from lib.diarization.rttm import Turn, write_rttm
from lib.evaluation import extract
from lib.evaluation.presence import clock, verdict

SECONDS = 20.0  # of each person alone, taken as the enrollment


def enrollments(mix, people=None):
    """name -> (enrollment `(samples,)`, turns) of everybody found in the file `mix`; the name is SPEAKER_00 and so on.

    Somebody who is never alone for a second has None for an enrollment.
    """
    wave = audio.read(mix, extract.SR)
    made = pipeline.pipeline(models.load(models.PACKAGED), second_look=True)
    annotation = pipeline.diarize(made, wave, num_speakers=people)
    found = {}
    for name in annotation.labels():
        turns = [Turn(name, part.start, part.end) for part in annotation.label_timeline(name)]
        try:
            found[name] = use.enrollment(wave, annotation, name, seconds=SECONDS)[0], turns
        except pipeline.DiarizationError:
            found[name] = None, turns
    return found


def everyone(mix, folder, model, people=None, kind=".wav", progress=True):
    """Write a file a person of `mix` into `folder`; returns name -> `Presence`, in the order of who speaks most."""
    found, heard = enrollments(mix, people), {}
    folder = Path(folder)
    write_rttm(folder / "who.rttm", Path(mix).stem, sorted(turn for _, turns in found.values() for turn in turns))
    for name in sorted(found, key=lambda name: -sum(turn.end - turn.start for turn in found[name][1])):
        wanted, turns = found[name]
        seconds = sum(turn.end - turn.start for turn in turns)
        if wanted is None:
            print(
                f"{name}: speaks for {clock(seconds)}, but never a second alone, so there is nothing to know them by."
            )
            continue
        heard[name] = extract.write_voice(mix, wanted, folder / f"{name}{kind}", model, progress=progress)
        print(f"{folder / f'{name}{kind}'}: speaks for {clock(seconds)}. {verdict(heard[name])}")
    return heard


def main(given=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser("everyone", description="One file for each person who speaks in a recording.")
    parser.add_argument("mix", metavar="MIX", help="the recording: sound or film, any format and rate")
    parser.add_argument("-o", "--out", help="folder (default: MIX's name with _voices, here)")
    parser.add_argument("--people", type=int, help="how many speak, where you know it")
    parser.add_argument("--model", default=extract.STARTER, help="a folder or a hub id (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that has files in it")
    asked = parser.parse_args(given)
    folder = Path(asked.out or f"{Path(asked.mix).stem}_voices").expanduser()
    try:
        audio.check_file(Path(asked.mix).expanduser())
        if folder.exists() and any(folder.iterdir()) and not asked.overwrite:
            raise ValueError(f"{folder}: has files in it; choose another folder with -o, or say --overwrite.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            heard = everyone(Path(asked.mix).expanduser(), folder, extract.load(asked.model), asked.people)
    except (ValueError, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the people written so far are whole.", file=sys.stderr)
        return 130
    if not heard:
        print(f"{asked.mix}: nobody was found who speaks alone for a second or more.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
