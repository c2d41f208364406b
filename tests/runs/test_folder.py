import json

import pytest

from etsdm.errors import IntegrityError
from etsdm.runs.folder import ExperimentFolder, Manifest, RunFolder, StageRecord, TrainingFolder, ValueEntry
from etsdm.storage.files import digest_of


@pytest.fixture
def folder(tmp_path):
    return TrainingFolder(tmp_path / "training")


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest_of({"a": 1, "b": [2.5, None]}) == digest_of({"b": [2.5, None], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    # sha256 of the two characters {}, by any other program.
    assert digest_of({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_finished_stage_is_recorded_and_replaced(folder):
    assert folder.finished() is None
    folder.finish(StageRecord("a", 1.0, {"images_per_second": 3.0}))
    folder.finish(StageRecord("b", 1.5, {}))
    assert folder.finished() == StageRecord("b", 1.5, {})


def test_a_manifest_comes_back_and_leads_to_the_training(tmp_path):
    run = RunFolder(tmp_path / "digits" / "a")
    assert (run.manifest(), run.training()) == (None, None)
    values = [ValueEntry("k", None, "values/k.json", "1"), ValueEntry("fid", "fast", "values/fast/fid.json", "2")]
    manifest = Manifest("../trainings/0123456789ab", "0123456789abcdef", {"fast": "3"}, values)
    run.write_manifest(manifest)
    assert run.manifest() == manifest
    assert run.training().path == tmp_path / "digits/trainings/0123456789ab"


def test_a_training_is_named_by_its_digest(tmp_path):
    experiment = ExperimentFolder(tmp_path)
    training = experiment.training("0123456789abcdef")
    assert training.path == tmp_path / "trainings/0123456789ab"
    assert experiment.trainings() == []
    training.log({"images_seen": 1})
    assert [one.path for one in experiment.trainings()] == [training.path]


def test_a_training_is_not_trained_twice_at_once(folder):
    with folder.locked(), pytest.raises(IntegrityError, match="another process trains this; wait"), folder.locked():
        pass


@pytest.mark.parametrize("record", [{"name": "a", "arms": ["x"], "seeds": [0]}, {"layout": 1}, {"layout": 3}])
def test_an_experiment_of_another_layout_is_refused_with_the_mend(tmp_path, record):
    (tmp_path / "experiment.json").write_text(json.dumps(record))
    with pytest.raises(IntegrityError, match=rf"^{tmp_path}: holds runs in a layout .* another folder with --out, or remove this one$"):
        ExperimentFolder(tmp_path).check()


def test_a_log_line_that_a_kill_cut_short_is_left_out(folder):
    for seen in (10, 20, 30):
        folder.log({"images_seen": seen})
    log = folder.path / "log.jsonl"
    log.write_text(log.read_text()[:-5])
    assert [record["images_seen"] for record in folder.training_log()] == [10, 20]


def test_a_log_is_cut_back_to_the_checkpoint(folder):
    for seen in (10, 20, 30):
        folder.log({"images_seen": seen})
    folder.truncate_log(20)
    assert [record["images_seen"] for record in folder.training_log()] == [10, 20]


def test_the_latest_checkpoints_are_kept_and_unfinished_ones_removed(folder):
    for seen in (100, 2_000, 30_000):
        folder.checkpoint_at(seen).mkdir(parents=True)
    (folder.checkpoints / ".000000040000.1234.tmp").mkdir()
    assert folder.latest_checkpoint() == folder.checkpoint_at(30_000)
    with folder.locked():
        folder.keep_checkpoints(2)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["000000002000", "000000030000"]


def test_a_damaged_record_names_the_file_and_the_mend(folder):
    folder.path.mkdir()
    (folder.path / "stage.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"stage\.json: is no JSON .* remove the file to do its stages again"):
        folder.finished()


def test_the_first_seed_lives_in_the_arms_folder_and_others_below(tmp_path):
    experiment = ExperimentFolder(tmp_path)
    assert experiment.run("a", 4, 4).path == tmp_path / "a"
    assert experiment.run("a", 5, 4).path == tmp_path / "a" / "seed-5"
