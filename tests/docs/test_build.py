"""The documentation builds without a warning, and its pages need no network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r'<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"|<link[^>]*rel="(?:stylesheet|icon|preconnect)"[^>]*href="([^"]+)"')


@pytest.mark.slow
def test_the_site_builds_with_public_names_and_loads_nothing_from_elsewhere(tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr
    expected = {
        "reference/condition-maps.html": ["ETSDM", "t_tilde", "One condition in each sub-interval"],
        "reference/experiment.html": ["build", "Experiment"],
        "reference/samplers.html": ["DDIM", "trajectory"],
        "reference/denoisers.html": ["DenoiserSpec", "ClassifierFreeGuidance"],
        "parts.html": ["e-tsdm", "dpm-solver++-2m"],
        "reference/errors.html": ["EtsdmError", "IntegrityError"],
        "concepts/recipes.html": ["condition_map", "held-out images"],
        "changelog.html": ["Unreleased"],
    }
    for page, names in expected.items():
        text = (site / page).read_text()
        assert [name for name in names if name not in text] == [], page
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        loaded = [script or link for script, link in LOADED.findall(page.read_text())]
        assert [url for url in loaded if "//" in url] == [], page
