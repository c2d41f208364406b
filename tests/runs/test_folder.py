import json
from pathlib import Path

import pytest

from etsdm.errors import IntegrityError
from etsdm.runs.folder import ExperimentFolder, RunFolder, StageRecord
from etsdm.storage.files import digest_of


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest_of({"a": 1, "b": [2.5, None]}) == digest_of({"b": [2.5, None], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    # sha256 of the two characters {}, by any other program.
    assert digest_of({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_stages_are_kept_and_replaced_one_by_one(folder):
    folder.finish_stage("train", StageRecord("a", 1.0, {"images_per_second": 3.0}))
    folder.finish_stage("sample", StageRecord("b", 2.0, {}))
    folder.finish_stage("train", StageRecord("c", 1.5, {}))
    assert folder.stage("train") == StageRecord("c", 1.5, {})
    assert folder.stage("sample") == StageRecord("b", 2.0, {})
    assert folder.stage("evaluate") is None


def test_a_log_line_that_a_kill_cut_short_is_left_out(folder):
    for seen in (10, 20, 30):
        folder.log({"images_seen": seen})
    log = folder.path / "metrics.jsonl"
    log.write_text(log.read_text()[:-5])
    assert [record["images_seen"] for record in folder.training_log()] == [10, 20]


def test_a_log_is_cut_back_to_the_checkpoint(folder):
    for seen in (10, 20, 30):
        folder.log({"images_seen": seen})
    folder.cut_log(20)
    assert [record["images_seen"] for record in folder.training_log()] == [10, 20]


def test_the_latest_checkpoints_are_kept_and_unfinished_ones_removed(folder):
    for seen in (100, 2_000, 30_000):
        folder.checkpoint_at(seen).mkdir(parents=True)
    (folder.checkpoints / ".000000040000.1234.tmp").mkdir()
    assert folder.latest_checkpoint() == folder.checkpoint_at(30_000)
    folder.keep_checkpoints(2)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["000000002000", "000000030000"]


def test_what_is_superseded_is_moved_and_not_overwritten_by_what_follows(folder):
    for content in ("first", "second"):
        folder.checkpoint_at(10).mkdir(parents=True)
        folder.log({"images_seen": content})
        folder.supersede(content * 3)
    kept = folder.path / "superseded"
    assert sorted(path.name for path in kept.iterdir()) == ["firstfirstfi", "secondsecond"]
    assert json.loads((kept / "firstfirstfi" / "metrics.jsonl").read_text()) == {"images_seen": "first"}
    assert folder.latest_checkpoint() is None


def test_what_was_superseded_comes_back_when_it_is_asked_for_again(folder):
    folder.checkpoint_at(10).mkdir(parents=True)
    folder.log({"images_seen": 10})
    folder.supersede("a" * 64)
    folder.log({"images_seen": 0})
    folder.bring_back("b" * 64)
    assert folder.latest_checkpoint() is None
    folder.bring_back("a" * 64)
    assert folder.latest_checkpoint() == folder.checkpoint_at(10)
    assert folder.training_log() == [{"images_seen": 10}]
    assert list((folder.path / "superseded").iterdir()) == []


def test_a_checkpoint_that_was_begun_by_another_recipe_is_no_obstacle_to_coming_back(folder):
    folder.checkpoint_at(10).mkdir(parents=True)
    folder.supersede("a" * 64)
    (folder.checkpoints / ".000000000016.1234.tmp").mkdir(parents=True)
    (folder.checkpoints / ".000000000016.1234.tmp" / "weights.safetensors").write_bytes(b"half")
    folder.bring_back("a" * 64)
    assert [path.name for path in folder.checkpoints.iterdir()] == ["000000000010"]


@pytest.mark.parametrize("moves", range(4))
def test_moving_away_that_was_killed_is_gone_on_with(folder, moves, monkeypatch):
    folder.checkpoint_at(10).mkdir(parents=True)
    folder.samples.mkdir()
    folder.log({"images_seen": 10})
    folder.finish_stage("train", StageRecord("a", 1.0, {}))
    rename, left = Path.rename, iter(range(moves))

    def killed(path, target):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.supersede("a" * 64)
    # By its checkpoint the training is still known, and moved away again.
    assert folder.latest_checkpoint() == folder.checkpoint_at(10)
    folder.supersede("a" * 64)
    assert not folder.checkpoints.exists()
    folder.bring_back("a" * 64)
    assert folder.latest_checkpoint() == folder.checkpoint_at(10)
    assert folder.training_log() == [{"images_seen": 10}]
    assert folder.stage("train") == StageRecord("a", 1.0, {})
    assert folder.samples.is_dir()


def test_a_damaged_record_names_the_file_and_the_mend(folder):
    folder.path.mkdir()
    (folder.path / "stages.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"stages\.json: is no JSON .* remove the file to do its stages again"):
        folder.stage("train")


def test_the_first_seed_lives_in_the_arms_folder_and_others_below(tmp_path):
    experiment = ExperimentFolder(tmp_path)
    assert experiment.run("a", 4, 4).path == tmp_path / "a"
    assert experiment.run("a", 5, 4).path == tmp_path / "a" / "seed-5"
