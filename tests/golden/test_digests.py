"""A refactoring changes no number: small runs give what they gave when the digests were last renewed."""

import json

import digests
import pytest
import torch


@pytest.fixture(scope="module")
def found():
    return digests.fresh()


def test_small_runs_give_the_recorded_weights_samples_and_values(found):
    file = digests.recorded_file(torch.__version__)
    if not file.exists():
        pytest.skip(f"no digests of torch {torch.__version__} on this processor; record them with: python tests/golden/digests.py --renew")
    recorded = json.loads(file.read_text())["digests"]
    changed = {key: (recorded.get(key), value) for key, value in found["digests"].items() if recorded.get(key) != value}
    assert changed == {}
    assert found["digests"].keys() == recorded.keys()


def test_the_digests_tell_apart_what_they_should(found):
    # Of the two arms' weights and samples, and of a sampler's with and without clipping.
    found = found["digests"]
    assert found["golden/baseline weights"] != found["golden/e-tsdm weights"]
    assert found["golden/baseline samples"] != found["golden/e-tsdm samples"]
    assert found["sampler euler"] != found["sampler euler, clipped"]
