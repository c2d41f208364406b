import pytest
import torch

from etsdm.condition_maps import ETSDM, ConditionMap, Intervals, SharedIntervals
from etsdm.condition_maps.sub_intervals import SubIntervals

PARTS = SubIntervals((0.0, 1.0, 4.0), (0.5, 2.0))


def test_a_time_has_the_representative_and_the_edges_of_its_sub_interval():
    t = torch.tensor([-1.0, 0.0, 0.9, 1.0, 3.9, 4.0], dtype=torch.float64)
    assert PARTS.representative(t).tolist() == [-1, 0.5, 0.5, 2, 2, 4]
    low, high = PARTS.ends(t)
    assert low.tolist() == [-1, 0, 0, 1, 1, 4]
    assert high.tolist() == [-1, 1, 1, 4, 4, 4]


def test_representatives_have_the_dtype_of_the_times_and_edges_are_float64():
    t = torch.tensor([0.5])
    assert PARTS.representative(t).dtype == torch.float32
    assert {end.dtype for end in PARTS.ends(t)} == {torch.float64}


@pytest.mark.parametrize("missing", ["sub_intervals", "shares_noise_level"])
def test_a_map_of_intervals_has_to_define_its_sub_intervals_and_its_sharing(missing):
    members = {"sub_intervals": property(lambda self: PARTS), "shares_noise_level": property(lambda self: False)}
    complete = type("Complete", (Intervals,), {"__module__": __name__, **members})
    assert complete()(torch.tensor([0.9])).tolist() == [0.5]
    lacking = type("Lacking", (Intervals,), {"__module__": __name__, **{name: made for name, made in members.items() if name != missing}})
    with pytest.raises(TypeError, match=missing):
        lacking()


def test_the_parts_have_the_edges_of_their_sub_intervals():
    for map_ in (ETSDM(t_tilde=9, n=3), SharedIntervals(edges=(0, 3, 6, 9))):
        assert isinstance(map_, ConditionMap)
        assert map_.edges == map_.sub_intervals.edges == (0, 3, 6, 9)
    assert SharedIntervals(edges=(1, 4), representative="log-mid").sub_intervals.representatives == (2,)
