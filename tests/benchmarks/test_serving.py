"""The serving benchmark: figures of a real server, failures counted, a server that does not start."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')

from vitreid.benchmarks import serving

pytestmark = pytest.mark.slow


def test_clients_of_a_real_server_are_answered(tmp_path, capsys):
    figures = tmp_path / "serving.json"
    assert serving.main(["--quick", "--seconds", "1", "--clients", "2", "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())
    assert found["answers"] >= 2 and found["failures"] == {}
    assert 0 < found["p50"] <= found["p99"] <= found["longest"]
    assert "failures: none" in capsys.readouterr().out


def test_failures_are_counted_by_their_kind():
    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(503)

        def log_message(self, *arguments):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        answers = serving.ask(server.server_address[1], [serving.upload(b"crop")], 2, 0.2)
    finally:
        server.shutdown()
        server.server_close()
    assert set(answers.failures) == {"status 503"}
    assert sum(answers.failures.values()) == len(answers.seconds)
    text = serving.describe(serving.summarise(answers, 0.2) | {"server MB": [None, None]})
    assert f"{len(answers.seconds)} x status 503" in text


def test_a_server_that_does_not_start_says_why(tmp_path):
    with (
        pytest.raises(OSError, match="ended with status 2: .*no-weights"),
        serving.serving(tmp_path / "no-gallery", tmp_path / "no-weights"),
    ):
        pass
