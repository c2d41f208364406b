import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etsdm.data.listing import image_files, quick_fingerprint, read_file
from etsdm.errors import DataError

EXTENSIONS = ("png", "jpg", "jpeg")


def fill(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_files_come_in_the_order_of_their_paths_whatever_their_depth(tmp_path):
    fill(tmp_path, "b.png", "a/10.png", "a/9.png", "a-b/1.png", "Z.jpg", "a.png", "ä.png")
    # By code point: capitals first, and - before . before /, as in a plain sort of the paths.
    assert image_files(tmp_path, EXTENSIONS) == ["Z.jpg", "a-b/1.png", "a.png", "a/10.png", "a/9.png", "b.png", "ä.png"]


def test_names_in_capitals_are_images_and_hidden_and_other_files_are_not(tmp_path):
    fill(tmp_path, "a.PNG", "b.JPeG", "sub/deep/d.jpg")
    fill(tmp_path, ".e.png", "sub/._d.jpg", ".cache/f.png", "g.bmp", "LICENSE.txt", "png", "h.png.part")
    assert image_files(tmp_path, EXTENSIONS) == ["a.PNG", "b.JPeG", "sub/deep/d.jpg"]
    assert image_files(tmp_path, ("bmp",)) == ["g.bmp"]


@given(
    st.sets(st.text("ab/.-", min_size=1, max_size=6).map(lambda text: "/".join(part + "x" for part in text.split("/") if part)), max_size=8)
)
def test_every_image_is_found_once(tmp_path_factory, stems):
    names = sorted(f"{stem}.png" for stem in stems if not any(part.startswith(".") for part in stem.split("/")) and stem)
    root = tmp_path_factory.mktemp("tree")
    fill(root, *names)
    assert image_files(root, EXTENSIONS) == names


def test_a_linked_folder_is_followed(tmp_path):
    fill(tmp_path / "there", "a.png")
    fill(tmp_path / "here", "b.png")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there")
    (tmp_path / "root").symlink_to(tmp_path / "here")
    assert image_files(tmp_path / "root", EXTENSIONS) == ["b.png", "link/a.png"]


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_back_is_refused(tmp_path, target):
    fill(tmp_path, "root/sub/a.png")
    link = tmp_path / "root" / "sub" / "link"
    link.symlink_to(target)
    with pytest.raises(DataError) as error:
        image_files(tmp_path / "root", EXTENSIONS)
    assert str(error.value) == f"{link}: is a link to a folder that contains it; remove it"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(DataError) as error:
        image_files(tmp_path, EXTENSIONS)
    assert str(error.value) == f"{tmp_path / 'closed'}: cannot be listed (Permission denied); make it readable or move it away"


def write(root, **contents):
    for name, content in contents.items():
        (root / name).write_bytes(content)
    return quick_fingerprint(root, sorted(contents))


def test_a_fingerprint_tells_names_sizes_and_contents_apart_and_not_where_they_are(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = write(tmp_path / "a", x=b"123", y=b"45")
    assert write(tmp_path / "b", x=b"123", y=b"45") == found
    others = [{"x": b"123"}, {"x": b"123", "z": b"45"}, {"x": b"12", "y": b"345"}, {"x": b"124", "y": b"45"}, {"x": b"45", "y": b"123"}]
    assert len({found, *(write(tmp_path / "b", **other) for other in others)}) == 1 + len(others)
    # Neither a name nor a content can be taken for another listing.
    assert write(tmp_path / "b", **{"x": b"1", "x y": b"2"}) != write(tmp_path / "b", **{"x x": b"1", "y": b"2"})


def test_of_more_than_is_read_every_kth_content_counts_and_all_names_and_sizes(tmp_path):
    names = [f"{k}.png" for k in range(10)]
    for name in names:
        (tmp_path / name).write_bytes(b"ab")
    seen = []
    whole = quick_fingerprint(tmp_path, names, max_bytes=5)  # of 20 bytes, so every fourth file
    for name in names:
        (tmp_path / name).write_bytes(b"cd")
        seen.append(quick_fingerprint(tmp_path, names, max_bytes=5) != whole)
        (tmp_path / name).write_bytes(b"ab")
    assert [k for k in range(10) if seen[k]] == [0, 4, 8]
    (tmp_path / "1.png").write_bytes(b"abc")
    assert quick_fingerprint(tmp_path, names, max_bytes=5) != whole


def test_a_file_that_is_not_there_is_named(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere")
    for use in (lambda: quick_fingerprint(tmp_path, ["a.png"]), lambda: read_file(tmp_path / "a.png")):
        with pytest.raises(DataError, match=rf"^{tmp_path / 'a.png'}: cannot be read \(No such file or directory\); make it readable"):
            use()


def test_a_file_is_read_whole(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\r\n\0")
    assert read_file(tmp_path / "a.png") == b"\r\n\0"
