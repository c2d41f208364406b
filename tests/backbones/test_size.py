"""The memory that a network may take: the machine's, or the limit of the control groups of a container."""

import pytest

from etsdm.backbones import size
from etsdm.backbones.mlp import MLP
from etsdm.errors import PartError

UNLIMITED = 9223372036854771712  # of version 1, the largest multiple of a page


def system(root, groups, **files):
    """Fake files of the system. Args: groups: lines of /proc/self/cgroup; **files: contents by path, `__` for `/`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        file = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_max", ".max").replace("_limit", ".limit_in_bytes")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/\n", {"memory_max": "max\n"}, None),
        ("0::/\n", {"memory_max": "4096\n"}, 4096),
        ("0::/user/job\n", {"user__job__memory_max": "max\n", "user__memory_max": "8192\n"}, 8192),
        ("0::/user/job\n", {"user__job__memory_max": "2048\n", "user__memory_max": "8192\n"}, 2048),
        ("0::/named/outside\n", {"memory_max": "512\n"}, 512),
        ("0::/../outside\n", {"memory_max": "512\n"}, 512),
        ("5:memory:/docker/a\n", {"memory__memory_limit": "1024\n"}, 1024),
        ("5:cpu,memory:/docker/a\n", {"memory__docker__a__memory_limit": "1024\n", "memory__memory_limit": f"{UNLIMITED}\n"}, 1024),
        ("5:memory:/\n0::/\n", {"memory__memory_limit": "1024\n", "memory_max": "max\n"}, 1024),
        ("3:cpu:/\n", {"memory__memory_limit": "1024\n"}, None),
        ("nonsense\n", {"memory_max": "12"}, None),
        ("0::/\n", {"memory_max": "-1"}, None),
    ],
)
def test_the_lowest_limit_of_the_groups(tmp_path, groups, files, limit):
    assert size._cgroup_limit(system(tmp_path, groups, **files)) == limit


def test_a_system_without_groups_has_no_limit(tmp_path):
    assert size._cgroup_limit(tmp_path) is None


def test_a_network_larger_than_the_container_is_refused_where_the_machine_would_hold_it(tmp_path, monkeypatch):
    spec = MLP(image_size=8, in_channels=1, out_channels=1, width=256, depth=2)
    monkeypatch.setattr(size, "_physical_memory", lambda: 10**12)
    monkeypatch.setattr(size, "_cgroup_limit", lambda: None)
    size.check_fits_memory(spec, "backbone")
    monkeypatch.setattr(size, "_cgroup_limit", lambda: 100_000)
    with pytest.raises(PartError, match=r"^backbone: the network has .* GB of weights .*, and this machine or container has 0\.0001 GB"):
        size.check_fits_memory(spec, "backbone")
    monkeypatch.setattr(size, "_cgroup_limit", lambda: UNLIMITED)
    size.check_fits_memory(spec, "backbone")
