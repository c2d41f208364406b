"""Every Python block of the concept pages and of the fix runs, and prints what stands in the text block after it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [*sorted((DOCS / "concepts").glob("*.md")), DOCS / "fix-your-model.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)

# In a process of its own, because a snippet may register a part.
RUN = """\
import contextlib, io, json, sys
names, printed = {"__name__": "__main__"}, []
for block in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(block, names)
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=lambda page: page.stem)
def test_snippets_print_what_the_page_says(page, tmp_path):
    blocks = BLOCK.findall(page.read_text())
    source = json.dumps([code for code, _ in blocks])
    done = subprocess.run([sys.executable, "-c", RUN], input=source, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [printed for _, printed in blocks]
