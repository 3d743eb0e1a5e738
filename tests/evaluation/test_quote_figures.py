"""Documents quote figures as the records under results/ have them."""

import json
import re
import runpy
from pathlib import Path

import pytest

from blinddiff.errors import ParameterError

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(REPOSITORY / "scripts" / "quote_figures.py"))
main, quote = SCRIPT["main"], SCRIPT["quote"]
DOCUMENTS = [path for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))) if path.is_file()]


def test_the_documents_of_this_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert main(["--check", *map(str, DOCUMENTS)]) == 0


def test_decibels_in_the_readme_are_quoted() -> None:
    readme = REPOSITORY / "README.md"
    if not readme.is_file():
        pytest.skip("README.md is not beside this copy of the package")
    text = re.sub(
        r"<!-- figures?: .*?<!-- end of figures? -->", "", readme.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert re.findall(r"(?<![\d.])\d\d\.\d\d(?![\d.])", text) == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    def estimate(mean: float) -> dict[str, float]:
        return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "images": 14, "values": 112}

    record = {
        "methods": ["bicubic", "fidelity"],
        "sets": [
            {
                "set": "Set14",
                "means": {
                    "bicubic": {"psnr_y": estimate(24.304)},
                    "fidelity": {"psnr_y": estimate(26.789), "kernel_l1": estimate(0.1216)},
                },
                "differences": {"psnr_y": [{"method": "fidelity", "baseline": "bicubic", "estimate": estimate(2.485)}]},
            }
        ],
        "costs": {"methods": {"fidelity": {"parameters": 7847132, "calls": 2, "gmacs": 5.731}}},
    }
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "record.json").write_text(json.dumps(record))
    return tmp_path


TABLE = """Before

<!-- figures: results/record.json rows=bicubic,fidelity columns={columns} -->
{body}<!-- end of figures -->

After <!-- figure: results/record.json fidelity Set14/psnr_y -->{single}<!-- end of figure --> dB.
"""
FILLED = """\
|          | Set14 PSNR-Y (dB) | Set14 kernel L1 | parameters |
|----------|------------------:|----------------:|-----------:|
| bicubic  |             24.30 |                 |            |
| fidelity |             26.79 |           0.122 |  7,847,132 |
"""
COLUMNS = "Set14/psnr_y,Set14/kernel_l1,cost/parameters"


def test_figures_are_filled_in_and_everything_else_is_left(root: Path) -> None:
    document = TABLE.format(columns=COLUMNS, body="", single="")
    filled = quote(document, root)
    assert filled == TABLE.format(columns=COLUMNS, body=FILLED, single="26.79")
    assert quote(filled, root) == filled


def test_differences_have_their_intervals(root: Path) -> None:
    filled = quote(TABLE.format(columns="Set14/psnr_y/bicubic", body="", single=""), root)
    assert "Set14 PSNR-Y (dB), minus bicubic" in filled
    assert "+2.48 [+2.38, +2.58]" in filled
    assert "-2.48 [-2.58, -2.38]" in quote(TABLE.format(columns="Set14/psnr_y/fidelity", body="", single=""), root)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("<!-- figures: x.json rows=a columns=b -->\n", "has no '<!-- end of figures"),
        (
            "<!-- figures: nowhere.json rows=a columns=Set5/psnr_y -->\n<!-- end of figures -->",
            "nowhere.json: no record",
        ),
        ("<!-- figures: results/record.json rows=a -->\n<!-- end of figures -->", "rows=... columns=... is accepted"),
        ("<!-- figure: results/record.json magic Set14/psnr_y --><!-- end of figure -->", "method 'magic' is not in"),
        ("<!-- figure: results/record.json fidelity Set5/psnr_y --><!-- end of figure -->", "set 'Set5' is not in"),
        ("<!-- figure: results/record.json fidelity Set14/psnr --><!-- end of figure -->", "column 'Set14/psnr'"),
        ("<!-- figure: results/record.json bicubic Set14/kernel_l1 --><!-- end of figure -->", "bicubic has no"),
        (
            "<!-- figure: results/record.json bicubic Set14/psnr_y/magic --><!-- end of figure -->",
            "no paired difference",
        ),
    ],
)
def test_what_cannot_be_quoted_is_named(document: str, message: str, root: Path) -> None:
    with pytest.raises(ParameterError, match=re.escape(message)):
        quote(document, root, "README.md")


def test_check_says_which_document_is_wrong(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    document = root / "README.md"
    document.write_text(TABLE.format(columns=COLUMNS, body=FILLED, single="26.97"))
    assert main(["--check", "README.md"]) == 1
    assert "README.md: quotes other figures than its records hold" in capsys.readouterr().out
    assert "26.97" in document.read_text()
    assert main(["README.md"]) == 0
    assert "26.97" not in document.read_text()
    assert main(["--check", "README.md"]) == 0
    document.write_text("<!-- figure: gone.json a b --><!-- end of figure -->")
    assert main(["--check", "README.md"]) == 2
    assert "gone.json" in capsys.readouterr().err


def with_whole_set(root: Path, images: int) -> Path:
    path = root / "results" / "record.json"
    record = json.loads(path.read_text())
    labels = [f"sigma {i}" for i in range(8)]
    record["fingerprint"] = {"protocol": {"name": "gaussian8", "scale": 4, "parameters": labels}}
    record["data"] = {"Set14": {"images": images}}
    record["sets"][0]["psnr_y_by_parameter"] = {"bicubic": {}, "fidelity": {"0": 27.5}}
    path.write_text(json.dumps(record))
    return root


def test_published_results_stand_beside_a_record_of_the_whole_set(root: Path) -> None:
    comment = "<!-- published: results/record.json Set14 rows=fidelity -->\n<!-- end of published -->"
    quoted = quote(f"Before\n{comment}\nAfter", with_whole_set(root, 14))
    order = [line.split("|")[1].strip() for line in quoted.splitlines() if line.startswith("|")][2:]
    assert order.index("KDSR-L") < order.index("DASR") < order.index("**fidelity**") < order.index("bicubic + ZSSR")
    assert "26.79 [26.69, 26.89]" in quoted
    assert "KDSR (arXiv 2211.16928), Table 1, row KDSR-L, column Set14 x4 (first-hand)" in quoted
    assert quote(quoted, root) == quoted
    with pytest.raises(ParameterError, match="has 13 of the 14 images of Set14"):
        quote(comment, with_whole_set(root, 13))


def test_published_results_can_be_listed_alone(root: Path) -> None:
    quoted = quote("<!-- published: div2krk 2 DIV2KRK -->\n<!-- end of published -->", root)
    assert [line.split("|")[1].strip() for line in quoted.splitlines() if "32.98" in line] == ["PL-IDENet"]
    assert "0.9081" in quoted
    for wrong, message in (
        ("setting1 4 Set5", "no published results of setting1 x4 on Set5"),
        ("div2krk", "RECORD SET rows=... or PROTOCOL SCALE SET is accepted"),
    ):
        with pytest.raises(ParameterError, match=re.escape(message)):
            quote(f"<!-- published: {wrong} -->\n<!-- end of published -->", root)
    with pytest.raises(ParameterError, match="has no '<!-- end of figures -->' of its kind"):
        quote("<!-- published: div2krk 2 DIV2KRK -->\n", root)
