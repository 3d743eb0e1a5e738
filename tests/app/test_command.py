"""`blinddiff app` before the page is open."""

import importlib.util

import pytest

from blinddiff.app.server import is_loopback
from blinddiff.cli.main import main


def test_without_the_extra_one_line_says_what_to_install(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else found(name))
    assert main(["app"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "blinddiff app: error: the web page needs gradio: pip install 'blinddiff[ui]'\n"


@pytest.mark.parametrize(
    "wrong", [("--port", "0"), ("--max-megapixels", "0"), ("--max-upload", "nan"), ("--queue", "-1")]
)
def test_numbers_outside_their_range_are_refused(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["app", *wrong])
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_a_taken_port_is_reported(address, tiny_weights, capsys):
    port = address.rstrip("/").rsplit(":", 1)[1]
    assert main(["app", "--port", port, "--weights", str(tiny_weights)]) == 2
    assert f"port {port}: cannot be used" in capsys.readouterr().err


def test_loopback():
    for host in ("127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"):
        assert is_loopback(host)
    for host in ("0.0.0.0", "192.168.1.2", "::", "[::]", "example.org", ""):
        assert not is_loopback(host)
