"""Requests made from the server's own description, openapi.json: none of them is the server's fault."""

import json
import shutil
import subprocess
import time
from urllib.request import urlopen

import pytest

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')

from live_server import live
from web_gallery import FakeEmbedder

from vitreid.gallery import Gallery
from vitreid.gallery.web import create_app

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("schemathesis") is None, reason="needs pip install schemathesis")
def test_requests_made_from_the_description_are_answered_as_described(served, tmp_path):
    folder = shutil.copytree(served, tmp_path / "gallery")  # people are enrolled in it
    with live(create_app(Gallery.open(folder), FakeEmbedder(), enrol=True)) as (port, _):
        while not json.loads(urlopen(f"http://127.0.0.1:{port}/people/state").read())["is_ready"]:  # 503 until then
            time.sleep(0.05)
        options = ["--checks", CHECKS, "--max-examples", "200", "--seed", "0", "--generation-database", "none"]
        command = ["schemathesis", "run", f"http://127.0.0.1:{port}/openapi.json", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
