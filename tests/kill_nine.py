"""Kill -9 at random moments of a dataset build, of packing, of training and of a download: afterwards the same command
goes on, and nothing is half there.

    python tests/kill_nine.py [kills] [seed] [step ...]      so many kills of each step, default 2 of all four

Each kill is said with its moment; an exit status other than 0 means that something was left broken.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def build(folder):
    from made_voices import make_voices

    from lib.data import mixtures

    voices = make_voices(folder / "voices", train=4, recordings=4)
    started()
    mixtures.build(voices, folder / "Dataset", train=60, val=10, test=10, workers=1, progress=False)


def pack(folder):
    from lib.data import shards

    started()
    shards.pack(folder / "Dataset", "Train", per_shard=7, progress=False)


def train(folder):
    import torch

    from lib.data.dataset import collate, part
    from lib.models.convoifilter import ConVoiFilter, ConVoiFilterConfig
    from lib.training.fit import fit

    torch.manual_seed(0)
    sizes = dict(adim=16, aheads=2, layers=1, linear_units=16, xvector_channels=16, xvector_pool=16, xvector_dim=16)
    model = ConVoiFilter(ConVoiFilterConfig(**sizes, enh_chunk_size=2))
    data = [part(folder / "Dataset", split, count) for split, count in (("Train", 16), ("Val", 4))]
    started()
    fit(
        model, *data, folder / "run", collate=collate, epochs=4, batch_size=4, precision="fp32", progress="none",
        device="cpu", cache_gb=0, resume=True,
    )  # fmt: skip


SLOW_APT = """#!/bin/sh
for package; do :; done  # the last argument
size=$(stat -c %s "$MADE/$package")
for part in 1 2 3 4 5; do
  head -c $((part * size / 5)) "$MADE/$package" > "${package}_1.0_all.deb"
  sleep 0.1
done
"""


def download(folder):
    """Three packages, which an apt-get of our own hands out in pieces."""
    from made_packages import encoded, make_deb, speech

    made, table = folder / "made", folder / "voices.csv"
    made.mkdir(exist_ok=True)
    (made / "apt-get").write_text(SLOW_APT)
    (made / "apt-get").chmod(0o755)
    rows = ["speaker,package,pattern,language,sex,licence,split,note"]
    for number, name in enumerate(("first", "second", "third")):
        if not (made / name).exists():
            waves = {f"talk/{k}.wav": encoded(speech(10 * number + k)) for k in range(8)}
            make_deb(folder / name, waves)
            (folder / name).rename(made / name)
        rows.append(f"{name}son,{name},*/talk/*,en,F,CC0,Train,")
    table.write_text("\n".join(rows) + "\n")
    os.environ |= {"WORKBOOK_CACHE": str(folder / "cache"), "MADE": str(made)}
    os.environ["PATH"] = f"{made}{os.pathsep}{os.environ['PATH']}"
    from lib.data import debian

    for left in (folder / "cache").rglob(".*"):  # an hour passes
        os.utime(left, (0, 0))
    started()
    debian.load(progress=False, table=table, workers=1)


def started():
    print("started", flush=True)


def check_build(folder):
    from lib.data.dataset import check_dataset

    counts = check_dataset(folder / "Dataset")["split"].value_counts().to_dict()
    assert counts == {"Train": 60, "Val": 10, "Test": 10}, counts


def check_pack(folder):
    from lib.data.dataset import open_dataset

    data = open_dataset(folder / "Dataset", "Train")
    assert type(data).__name__ == "ShardedMixtures" and len([data[place] for place in range(len(data))]) == 60


def check_train(folder):
    from lib import runs
    from lib.models.convoifilter import ConVoiFilter

    assert runs.read_history(folder / "run" / "history.csv")["epoch"].tolist() == [0, 1, 2, 3, 4]
    assert runs.read_json(folder / "run" / "settings.json")["finished"]
    ConVoiFilter.from_pretrained(folder / "run" / "best")


def check_download(folder):
    import soundfile

    os.environ["WORKBOOK_CACHE"] = str(folder / "cache")
    from lib.data import debian

    found = debian.load(progress=False, table=folder / "voices.csv")
    assert found["speaker"].value_counts().to_dict() == {"firstson": 8, "secondson": 8, "thirdson": 8}
    assert all(len(soundfile.read(path)[0]) > 8000 for path in found["path"])


def left_over(folder):
    """Names of half things, which each of these commands starts with a dot."""
    return [
        path for path in folder.rglob(".*") if path.name.startswith((".part", ".shards", ".old", ".best", ".unpacked"))
    ]


def attempt(step, folder, seconds=None):
    """Run `step` in a process of its own; kill it `seconds` after its start. Whether it ended by itself."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--step", step, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    process.stdout.readline()  # it has imported what it needs
    if seconds is not None:
        time.sleep(seconds)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers, which nobody feeds any more
            return False
    _, said = process.communicate()
    assert process.returncode == 0, f"{step} stopped by itself: {said[-2000:]}"
    return True


STEPS = ("build", "pack", "download", "train")
MADE = {"build": "Dataset", "pack": "Dataset/Train_Dataset/shards", "download": "cache", "train": "run"}


def main(kills=2, seed=0, *steps):
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as top:
        for step in steps or STEPS:
            folder, done = Path(top), 0
            for _ in range(5 * kills):
                moment = chance.uniform(0.02, {"build": 1.5, "pack": 0.6, "download": 1.5, "train": 8.0}[step])
                ended = attempt(step, folder, moment)
                done += not ended
                print(f"{step} after {moment:.2f} s: {'it had ended' if ended else f'kill {done}'}", flush=True)
                if done == kills:
                    break
                if ended:  # begin anew, or the rest of the kills would meet a command that has nothing to do
                    shutil.rmtree(folder / MADE[step], ignore_errors=True)
            assert done == kills, f"{step} ended by itself too often: {done} kills"
            attempt(step, folder)
            globals()[f"check_{step}"](folder)
            left = left_over(folder)
            print(
                f"{step}: whole after {done} kills; left over: {[path.name for path in left] or 'nothing'}", flush=True
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        globals()[sys.argv[2]](Path(sys.argv[3]))
    else:
        main(*map(int, sys.argv[1:3]), *sys.argv[3:])
