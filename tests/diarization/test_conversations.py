"""Simulated conversations: exact labels, people apart, the stated distributions; the layout on disk and the checker
that names what is wrong.
"""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from made_voices import make_voices

from lib import audio
from lib.data import rooms
from lib.diarization import conversations, protocols, styles
from lib.diarization.conversations import SR, Voices
from lib.diarization.rttm import Turn, read_rttm
from lib.diarization.styles import MEETING, STUDIO, ConversationError

QUIET = replace(STUDIO, people=(2, 3), level_db=(0.0, 0.0))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_voices(tmp_path_factory.mktemp("voices"), train=3, val=3, test=3, recordings=9, seconds=(2.9, 3.1))


@pytest.fixture(scope="module")
def root(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("conversations") / "data"
    conversations.build(table, folder, replace(QUIET, seconds=12.0), {"train": 2, "dev": 1, "test": 1}, progress=False)
    return folder


def test_each_voice_sounds_in_its_turns_and_nowhere_else(table):
    made = conversations.simulate(QUIET, Voices(table[table["split"] == "Train"]), seed=3)
    assert np.allclose(sum(made.voices.values()), made.wave, atol=1e-6) and np.abs(made.wave).max() <= 0.9 + 1e-6
    assert len(made.voices) >= 2
    for name, voice in made.voices.items():
        inside = np.zeros(len(voice), bool)
        for turn in (turn for turn in made.turns if turn.speaker == name):
            first, last = round(turn.start * SR), round(turn.end * SR)
            inside[first:last] = True
            assert (
                audio.rms_db(voice[first : first + 800]) > -60 and audio.rms_db(voice[last - 800 : last]) > -60
            )  # sound from edge to edge
        assert not voice[~inside].any()


def test_in_a_room_the_labels_stay_exact(table):
    click = np.zeros(8000, np.float32)
    click[4000] = 1.0
    room = rooms.draw(np.random.default_rng(0), 2)
    for heard in conversations._in_room([click, click], room):
        direct = int(np.flatnonzero(np.abs(heard) > 0.3 * np.abs(heard).max())[0])
        assert abs(direct - 4000) <= 16  # 1 ms
        assert heard.std() == pytest.approx(click.std(), rel=0.05)
    voices = Voices(table[table["split"] == "Train"])
    dry, wet = (
        conversations.simulate(replace(QUIET, seconds=6.0, room_share=share), voices, seed=5) for share in (0.0, 1.0)
    )
    assert dry.turns == wet.turns and wet.facts["room"] and not dry.facts["room"]


def test_the_same_seed_gives_the_same_samples(table):
    voices = Voices(table[table["split"] == "Train"])
    first, second, other = (
        conversations.simulate(replace(MEETING, seconds=8.0, people=(2, 3)), voices, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.wave, second.wave) and first.turns == second.turns
    assert not np.array_equal(first.wave, other.wave)


def test_plans_follow_their_style():
    people, rng = list("ABCD"), np.random.default_rng(0)
    plans = [styles.plan(rng, MEETING, people) for _ in range(60)]
    for turns in plans:
        for name in people:
            own = [turn for turn in turns if turn.speaker == name]
            assert all(second.start >= first.end for first, second in itertools.pairwise(own))
        assert turns[-1].end <= MEETING.seconds
    lengths = [turn.end - turn.start for turns in plans for turn in turns]
    assert abs(np.median(lengths) / MEETING.turn_seconds - 1) < 0.2
    shares = [styles.overlap(turns) for turns in plans]
    assert 0.05 < np.mean(shares) < 0.15
    assert np.mean([styles.overlap(styles.plan(rng, STUDIO, people)) for _ in range(30)]) < np.mean(shares)


def test_overlap_by_hand():
    turns = [Turn("A", 0, 4), Turn("B", 3, 6), Turn("A", 8, 10)]
    assert styles.overlap(turns) == pytest.approx(1 / 8)


def test_what_is_written_is_what_was_drawn_and_nobody_is_in_two_sets(root, table):
    assert protocols.check(root) == {"train": 2, "dev": 1, "test": 1}
    facts = json.loads((root / "conversations.json").read_text())["facts"]
    split = table.drop_duplicates("speaker").set_index("speaker")["split"]
    for part, name in conversations.SETS.items():
        for uri, fact in facts[part].items():
            assert {split[person] for person in fact["people"]} == {name}
            heard = {turn.speaker for turn in read_rttm(root / part / "rttm" / f"{uri}.rttm")[uri]}
            assert heard == set(fact["people"])
    again = conversations.simulate(
        replace(QUIET, seconds=12.0),
        Voices(table[table["split"] == "Test"]),
        conversations.conversation_seed(0, "test", 0),
    )
    assert np.abs(again.wave - audio.read(root / "test" / "wav" / "studio_test_000.wav")).max() < 1e-4


def test_the_folder_is_kept_or_refused(root, table):
    asked = dict(style=replace(QUIET, seconds=12.0), counts={"train": 2, "dev": 1, "test": 1}, progress=False)
    before = (root / "train.txt").stat().st_mtime_ns
    conversations.build(table, root, **asked)
    assert (root / "train.txt").stat().st_mtime_ns == before
    with pytest.raises(ConversationError, match="overwrite=True"):
        conversations.build(table, root, **{**asked, "style": MEETING})
    with pytest.raises(ConversationError, match="not made here"):
        conversations.build(table, root / "train", **{**asked, "overwrite": True})
    with pytest.raises(ConversationError, match="people"):
        replace(STUDIO, people=(3, 2))
    with pytest.raises(ConversationError, match="needs as many voices"):
        conversations.simulate(STUDIO, Voices(table[table["speaker"] == "train0"]))


def test_an_interrupted_making_is_begun_anew(table, tmp_path, monkeypatch):
    asked = dict(style=replace(QUIET, seconds=6.0), counts={"train": 1, "dev": 1, "test": 1}, progress=False)
    with monkeypatch.context() as broken:
        broken.setattr(conversations, "write_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            conversations.build(table, tmp_path / "data", **asked)
    conversations.build(table, tmp_path / "data", **asked)
    assert protocols.check(tmp_path / "data") == {"train": 1, "dev": 1, "test": 1}


def test_pyannote_reads_it(root):
    (file,) = protocols.files(root, "dev")
    assert file["waveform"].shape == (1, 12 * SR) and file["sample_rate"] == SR
    turns = read_rttm(root / "dev" / "rttm" / f"{file['uri']}.rttm")[file["uri"]]
    assert [round(segment.start, 3) for segment in file["annotation"].itersegments()] == [turn.start for turn in turns]
    assert file["annotated"].duration() == pytest.approx(12.0)


def test_nemo_gets_the_same_data(root, tmp_path):
    rows = protocols.nemo_manifest(root, "train", tmp_path / "train.json")
    lines = [json.loads(line) for line in (tmp_path / "train.json").read_text().splitlines()]
    assert lines == rows and len(lines) == 2
    assert (
        lines[0]["duration"] == 12.0
        and lines[0]["rttm_filepath"].endswith("studio_train_000.rttm")
        and lines[0]["num_speakers"] >= 2
    )


@pytest.fixture
def broken(root, tmp_path):
    import shutil

    return shutil.copytree(root, tmp_path / "copy")


def change(path, text):
    path.write_text(text, encoding="utf-8")


LINE = "SPEAKER {} 1 {} {} <NA> <NA> {} <NA> <NA>\n"


@pytest.mark.parametrize(
    "spoil, named",
    [
        (lambda root: (root / "dev/wav/studio_dev_000.wav").unlink(), "studio_dev_000: no audio in dev/wav"),
        (lambda root: (root / "dev/rttm/studio_dev_000.rttm").unlink(), "studio_dev_000.rttm"),
        (
            lambda root: change(root / "dev/rttm/studio_dev_000.rttm", LINE.format("studio_dev_000", 11, 3, "X")),
            "a turn of X ends at 14 s, beyond the file's 12.00 s",
        ),
        (
            lambda root: change(
                root / "dev/rttm/studio_dev_000.rttm",
                LINE.format("studio_dev_000", 1, 3, "X") + LINE.format("studio_dev_000", 3, 2, "X"),
            ),
            "turns of X overlap at 3 s",
        ),
        (
            lambda root: change(
                root / "dev/rttm/studio_dev_000.rttm",
                LINE.format("studio_dev_000", 1, 3, "test0") + LINE.format("studio_dev_000", 5, 3, "train0"),
            ),
            "this speaker is in two sets",
        ),
        (
            lambda root: change(root / "dev/rttm/studio_dev_000.rttm", "SPEAKER nonsense\n"),
            "studio_dev_000.rttm, line 1",
        ),
        (
            lambda root: change(root / "dev/rttm/studio_dev_000.rttm", LINE.format("other", 1, 3, "X")),
            "is about other; expected studio_dev_000",
        ),
        (
            lambda root: change(root / "dev/uem/studio_dev_000.uem", "studio_dev_000 1 0 30\n"),
            "reaches beyond the file's 12.00 s",
        ),
        (
            lambda root: change(root / "test.txt", "studio_test_000\nstudio_dev_000\n"),
            "studio_dev_000: listed twice, in dev.txt and test.txt",
        ),
        (lambda root: (root / "test.txt").unlink(), "test.txt: no such file"),
    ],
)
def test_the_checker_names_what_does_not_fit(broken, spoil, named):
    spoil(broken)
    with pytest.raises(protocols.DataError) as error:
        protocols.check(broken)
    assert named in str(error.value)
