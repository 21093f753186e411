"""`vitreid serve`: what it refuses before it starts, and whom it answers."""

import socket
import sys

import pytest

pytest.importorskip("fastapi", reason='needs the extra: pip install "vitreid[serve]"')
pytest.importorskip("uvicorn", reason='needs the extra: pip install "vitreid[serve]"')

from vitreid.gallery.web import server
from vitreid.tools import serve

ARGUMENTS = ["--gallery", "g", "--weights", "w"]


@pytest.fixture
def made(monkeypatch):
    """Do not load or serve anything; yield the options of `create_app` and of `run`."""
    made = {}
    monkeypatch.delenv(serve.TOKEN, raising=False)
    monkeypatch.setattr(serve, "Embedder", lambda weights, **_: weights)
    monkeypatch.setattr(serve.Gallery, "open", lambda path, rows: made.update(rows=rows))
    monkeypatch.setattr(serve, "create_app", lambda *what, **options: made.update(options))

    def run(app, sockets, proxies, ready):
        made.update(proxies=proxies, port=sockets[0].getsockname()[1])
        ready()

    monkeypatch.setattr(server, "run", run)
    return made


def run(*arguments):
    return serve.main([*ARGUMENTS, "--port", "0", *arguments])


@pytest.mark.parametrize(
    "arguments, hosts, rate",
    [
        ([], ("localhost", "127.0.0.1"), None),
        (["--host", "127.0.0.2"], ("localhost", "127.0.0.2"), None),
        (
            ["--name", "Reid.example.org"],
            ("localhost", "127.0.0.1", "reid.example.org"),
            10,
        ),  # a proxy passes others on
        (["--host", "0.0.0.0"], ("localhost", "0.0.0.0"), 10),
        (["--host", "0.0.0.0", "--rate", "3"], ("localhost", "0.0.0.0"), 3),
    ],
)
def test_every_server_answers_to_its_own_names_only(arguments, hosts, rate, made):
    assert run(*arguments) == 0
    assert made["hosts"] == hosts and made["rate"] == rate and made["token"] is None


def test_options_arrive(made, monkeypatch):
    monkeypatch.setenv(serve.TOKEN, "of the environment")
    assert run("--max-mb", "2", "--max-megapixels", "3", "--proxy", "10.0.0.1") == 0
    assert made["token"] == "of the environment" and made["proxies"] == ["10.0.0.1"]
    assert made["max_bytes"] == 2_000_000 and made["max_pixels"] == 3_000_000
    assert run("--token", "t") == 0 and made["token"] == "t"


@pytest.mark.parametrize("token", ["", " "])
def test_an_empty_token_does_not_open_the_gallery(token, made, monkeypatch, capsys):
    """It comes from a variable that was never set."""
    assert run("--token", token) == 2 and not made
    assert "--token: the token is empty" in capsys.readouterr().err
    monkeypatch.setenv(serve.TOKEN, token)
    assert run() == 2 and not made
    assert f"{serve.TOKEN}: the token is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, is_warned",
    [
        ([], False),
        (["--host", "127.0.0.2"], False),
        (["--name", "reid.example.org"], True),
        (["--host", "0.0.0.0"], True),
        (["--name", "a", "--token", "t"], False),
    ],
)
def test_the_tool_says_when_anybody_can_look(arguments, is_warned, made, capsys):
    assert run(*arguments) == 0
    assert ("anybody who reaches" in capsys.readouterr().out) == is_warned


def test_the_url_is_that_of_the_port_taken(made, capsys):
    assert run() == 0
    assert made["port"] > 0 and f"http://127.0.0.1:{made['port']}/" in capsys.readouterr().out


def test_a_port_in_use_is_refused_before_anything_is_loaded(made, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve.main([*ARGUMENTS, "--port", str(port)]) == 2
    captured = capsys.readouterr()
    assert f"--port: {port} is in use by another program" in captured.err and not captured.out and not made


@pytest.mark.parametrize("port", ["-1", "65536", "99999"])
def test_a_number_that_is_no_port_is_refused(port, made, capsys):
    assert serve.main([*ARGUMENTS, "--port", port]) == 2
    assert f"--port: a number from 0 to 65535, got {port}" in capsys.readouterr().err and not made


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "name.invalid"])
def test_a_host_that_is_not_this_machine_is_refused(host, made, capsys):
    assert run("--host", host) == 2
    assert "--host: " in capsys.readouterr().err and not made


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_the_tool_names_the_package_that_is_missing(missing, monkeypatch, capsys):
    monkeypatch.setattr(serve, "Embedder", lambda weights, **_: None)
    monkeypatch.setattr(serve.Gallery, "open", lambda path, rows: None)
    monkeypatch.setitem(sys.modules, missing, None)
    for module in ("app", "server"):
        monkeypatch.delitem(sys.modules, f"vitreid.gallery.web.{module}", raising=False)
    monkeypatch.delattr("vitreid.gallery.web.server", raising=False)
    assert run() == 2
    assert f'serving a gallery needs {missing}: pip install "vitreid[serve]"' in capsys.readouterr().err
