import math

import pytest

from etsdm.registry import lr_schedules


def factors(name, *images_seen, warmup_images=2_000, total_images=10_000):
    schedule = lr_schedules.create(name)
    return [schedule.factor(seen, warmup_images, total_images) for seen in images_seen]


def test_constant_is_the_peak_throughout():
    assert factors("constant", 2_000, 5_000, 10_000) == [1.0, 1.0, 1.0]


def test_cosine_is_half_way_down_in_the_middle_and_zero_at_the_end():
    expected = [1.0, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.0]
    assert factors("cosine", 2_000, 4_000, 6_000, 10_000) == pytest.approx(expected)


def test_cosine_stays_at_zero_after_the_end_and_takes_a_warmup_of_the_whole_training():
    assert factors("cosine", 12_000) == pytest.approx([0.0])
    assert factors("cosine", 10_000, warmup_images=10_000) == [1.0]
