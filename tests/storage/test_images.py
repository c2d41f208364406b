import io

import pytest
from PIL import Image, ImageSequence

from etsdm.storage.images import animation_bytes, png_bytes

FRAMES = [Image.new("L", (5, 4), level) for level in (0, 90, 200)]


@pytest.mark.parametrize(("name", "kind"), [("a.gif", "GIF"), ("b.WEBP", "WEBP")])
def test_an_animation_shows_every_frame_again_and_again_and_the_last_one_longer(name, kind):
    picture = Image.open(io.BytesIO(animation_bytes(FRAMES, name, seconds=3.0)))
    assert (picture.format, picture.size, picture.n_frames, picture.info["loop"]) == (kind, (5, 4), 3, 0)
    shown = [(frame.convert("RGB").getpixel((2, 2)), frame.info["duration"]) for frame in ImageSequence.Iterator(picture)]
    assert shown == [((0, 0, 0), 1000), ((90, 90, 90), 1000), ((200, 200, 200), 10_000)]


def test_one_frame_is_an_animation_too():
    assert Image.open(io.BytesIO(animation_bytes(FRAMES[:1], "a.gif"))).size == (5, 4)


def test_facts_come_back_short_or_long():
    facts = {"seed": "3", "protocol": "{}" * 5000, "name": "Lévy"}
    content = png_bytes(FRAMES[0], facts)
    text = Image.open(io.BytesIO(content)).text
    assert (len(text.pop("sha256")), text) == (64, facts)
    assert len(content) < 1000
