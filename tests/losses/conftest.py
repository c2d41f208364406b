"""A map that several losses are tried with."""

import pytest

from etsdm.condition_maps import ConditionMap


class LeftEdges(ConditionMap):
    """Shares conditions and, with them, the noise levels: both are those of the last multiple of 20."""

    def __call__(self, t, schedule=None):
        return t // 20 * 20

    def level_time(self, t, schedule):
        return self(t)


@pytest.fixture(scope="session")
def left_edges():
    return LeftEdges()
