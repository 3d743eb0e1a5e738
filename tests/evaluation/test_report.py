"""The report: nothing outside the file, drawings that are well formed, cases chosen as the page says."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from blinddiff.evaluation.data import Case, CaseId, Restoration
from blinddiff.evaluation.methods import Options, PipelineMethod
from blinddiff.evaluation.plots import (
    BINS,
    KeptViews,
    Picture,
    Pictures,
    Plot,
    View,
    busiest_window,
    data_uri,
    make_report_pictures,
    scatter,
    width_histogram,
)
from blinddiff.evaluation.records import ImageResult
from blinddiff.evaluation.report import Heading, Items, Paragraph, Table, as_html, as_markdown
from blinddiff.evaluation.run import Settings, evaluate
from blinddiff.evaluation.statistics import EACH, Estimate, chosen_cases, chosen_kernels, subject_of

SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """Collects what a page asks for from elsewhere, and whether its elements are closed."""

    VOID = ("meta", "img", "line", "circle", "rect", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "data")]
        assert tag not in ("script", "link", "iframe", "object")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """The folder of a whole run with pictures, on two made images."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "data" / "Set5").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(2):
        pixels = np.kron(rng.integers(0, 256, (13, 13, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "data" / "Set5" / f"image_{number}.png")
    Image.fromarray(pixels[:2]).save(folder / "data" / "Set5" / "too<small>.png")
    methods = ("bicubic", "closed-form", "fidelity@1")
    options = Options(weights, "cpu")
    evaluate(Settings("gaussian8", 4, ("Set5",), methods, folder / "data", folder / "out", options, costs=False))
    return folder / "out"


def test_the_page_needs_nothing_beside_it(report: Path) -> None:
    text = (report / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.addresses
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert "url(" not in text
    assert "@import" not in text


def test_drawings_are_well_formed_and_labelled(report: Path) -> None:
    drawings = re.findall(r"<svg.*?</svg>", (report / "report.html").read_text(), re.DOTALL)
    titles = [ElementTree.fromstring(drawing).findtext(f"{SVG}title") for drawing in drawings]
    assert titles == [
        "Set5: NIQE against PSNR-Y",
        "Set5: PSNR-Y against seconds",
        "Histograms of width error",
    ]
    for drawing in drawings:
        labels = {"".join(text.itertext()) for text in ElementTree.fromstring(drawing).iter(f"{SVG}text")}
        assert any("fidelity@1" in label for label in labels)


def test_a_page_says_what_a_reviewer_would_ask(report: Path) -> None:
    html, markdown = ((report / f"report.{kind}").read_text() for kind in ("html", "md"))
    for expected in ("**2 of 5 images**", "2 of 5 images", "which are left out", "worst: ", "Not evaluated (24)"):
        assert expected in markdown
    for expected in ("worst: ", "Kernels of", "too&lt;small&gt;", "CVPR 2019"):
        assert expected in html
    assert "too<small>" not in html
    assert "<svg" not in markdown
    assert "report.html" not in html


def test_pictures_are_kept_without_loss() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    kind, content = data_uri(Image.fromarray(pixels)).split(",")
    assert kind == "data:image/webp;base64"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))), pixels)


def test_one_list_of_blocks_is_written_down_twice() -> None:
    blocks = [
        Heading(1, "A & B"),
        Paragraph("`code <x>`, **bold** and *thin*"),
        Paragraph("a figure", markdown_only=True),
        Items(["one"]),
        Table(["", "dB", "source"], [["a|b", "1.50 [1.00, 2.00] better", "a paper"]]),
        Plot("title <1>", scatter({"a": (equal(1.0), equal(2.0))}, ("x", "y")), "caption"),
        Pictures("a case", [Picture("input", "data:image/webp;base64,AAAA", "x4")], "a row"),
    ]
    html = as_html(blocks)
    for expected in (
        "<title>A &amp; B</title>",
        "<code>code &lt;x&gt;</code>, <strong>bold</strong> and <em>thin</em>",
        "<td>1.50<small>[1.00, 2.00]</small> better</td>",
        '<td class="words">a paper</td>',
        "<title>title &lt;1&gt;</title>",
        '<img src="data:image/webp;base64,AAAA" alt="input"><b>input</b> <span class="note">x4</span>',
    ):
        assert expected in html
    assert "a figure" not in html
    markdown = as_markdown(blocks)
    assert "a figure" in markdown
    assert "| a\\|b | 1.50 [1.00, 2.00] better | a paper |" in markdown
    assert "caption" not in markdown


def equal(value: float, half: float = 0.0) -> Estimate:
    return Estimate(value, value - half, value + half, 1, 1)


def test_scatter_shows_all_intervals_and_better_is_up() -> None:
    points = {"a": (equal(0.01, 0.005), equal(26.0, 0.5)), "b": (equal(10.0, 4.0), equal(29.5, 1.0))}
    (axes,) = scatter(points, ("seconds", "dB"), log_x=True).axes
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "seconds", "dB")
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    assert 0 < left < 0.005
    assert right > 14
    assert bottom < 25.5
    assert top > 30.5
    (axes,) = scatter(points, ("seconds", "NIQE"), lower_y_is_better=True).axes
    assert axes.get_ylim()[0] > 30.5
    assert axes.get_ylim()[1] < 25.5


def test_equal_values_have_a_range() -> None:
    (axes,) = scatter({"a": (equal(3.0), equal(3.0)), "b": (equal(3.0), equal(3.0))}, ("x", "y")).axes
    assert axes.get_xlim()[0] < 3 < axes.get_xlim()[1]


def test_labels_do_not_cover_each_other() -> None:
    figure = scatter({f"method {i}": (equal(1.0), equal(30 + i / 100)) for i in range(6)}, ("x", "y"))
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def results(method: str, gains: list[float], **metrics: list[float]) -> list[ImageResult]:
    return [
        ImageResult(
            method,
            "Set5",
            f"image{i // 2}",
            i % 2,
            {"psnr_y": 30 + gain, **{name: values[i] for name, values in metrics.items()}},
        )
        for i, gain in enumerate(gains)
    ]


def test_histograms_count_every_kernel_once() -> None:
    errors = [0.0, 2.4, 2.6, 49.9, 50.0, 400.0]
    found = results("fidelity", [0.0] * 6, kernel_width_error=errors)
    (plot,) = width_histogram(found, ["bicubic", "fidelity"])
    (axes,) = plot.figure.axes
    bars = [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
    assert len(bars) == BINS
    assert [round(6 * bar) for bar in bars] == [2, 1, *[0] * (BINS - 3), 3]
    assert "median 49.9 %, 6 kernels" in plot.svg
    assert width_histogram(found, ["bicubic"]) == []


@pytest.mark.parametrize(
    ("names", "subject"),
    [
        (["bicubic", "external", "fidelity", "oracle"], "fidelity"),
        (["bicubic", "fidelity@1", "oracle"], "fidelity@1"),
        (["bicubic", "closed-form", "closed-form-oracle"], "closed-form"),
        (["oracle"], "oracle"),
    ],
)
def test_cases_are_those_of_this_package_and_never_of_an_oracle(names: list[str], subject: str) -> None:
    assert subject_of(names) == subject


def test_cases_are_the_worst_and_the_best_images() -> None:
    gains = [1.0, 0.9, 2.0, 5.0, -1.0, 3.0, 4.0, 4.1, 0.2, 0.3, 9.0, 0.0, 8.0, 8.0]
    found = results("fidelity", gains) + results("bicubic", [0.0] * len(gains))
    chosen = chosen_cases(found, "fidelity", "bicubic")
    worst, best = chosen[:EACH], chosen[EACH:]
    assert [key[1:] for _, key in worst] == [("image2", 0), ("image5", 1), ("image4", 0)]
    assert [key[1] for _, key in best] == ["image6", "image1", "image3"]  # image5 is shown already
    assert worst[0][0] == "worst: -1.00 dB over bicubic"
    assert [title for title, _ in chosen_cases(found, "bicubic", "bicubic")] == ["example"] * EACH


def test_of_few_images_some_are_the_best() -> None:
    found = results("fidelity", [1.0, 0.9, 2.0, 5.0]) + results("bicubic", [0.0] * 4)
    chosen = chosen_cases(found, "fidelity", "bicubic")
    assert [title for title, _ in chosen] == ["worst: +0.90 dB over bicubic", "best: +5.00 dB over bicubic"]


def made_view() -> View:
    return View(np.zeros((2, 2, 3), np.uint8), np.ones((3, 3), np.float32))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_shown_was_kept_and_little_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, indices = int(rng.integers(1, 30)), int(rng.integers(1, 5))
    keys = [CaseId("Set5", f"image{i}", k) for i in range(images) for k in range(indices)]
    order = [keys[i] for i in rng.permutation(len(keys))]
    gallery = KeptViews(["bicubic", "fidelity", "oracle"], keys)
    done = []
    for key in order:
        for name in ("bicubic", "fidelity", "oracle"):
            done.append(ImageResult(name, *key, {"psnr_y": rng.normal(), "kernel_l1": rng.random()}))
            gallery.add(done[-1], made_view())
        assert (
            len(gallery.views) <= 3 * EACH + EACH + 2
        )  # worst, twice as many best; examples; the two that are being made
    for _, key in chosen_cases(done, "fidelity", "bicubic"):
        assert all(name in gallery.views[key] for name in ("bicubic", "fidelity", "oracle"))
    for _, key in chosen_kernels(done, "fidelity"):
        assert key in gallery.kernels


def test_examples_are_kept_where_there_is_no_truth() -> None:
    keys = [CaseId("RealSRSet", f"image{i:02}", 0) for i in range(20)]
    gallery = KeptViews(["bicubic", "fidelity"], keys)
    done = [ImageResult(name, *key, {"seconds": 1.0}) for key in keys for name in ("bicubic", "fidelity")]
    for result in done:
        gallery.add(result, made_view())
    chosen = chosen_cases(done, "fidelity", "bicubic")
    assert len(chosen) == EACH
    assert all("fidelity" in gallery.views[key] for _, key in chosen)


def test_nothing_is_restored_twice_and_pages_are_the_same_after_a_kill(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[CaseId] = []
    original = PipelineMethod.restore

    def counted(self: PipelineMethod, y: torch.Tensor, scale: int, case: Case) -> Restoration:
        calls.append(case.id)
        return original(self, y, scale, case)

    monkeypatch.setattr(PipelineMethod, "restore", counted)
    chosen = Settings(
        "setting1",
        4,
        ("Set5",),
        ("bicubic", "fidelity@1"),
        data,
        tmp_path / "out",
        Options(weights, "cpu"),
        costs=False,
    )
    evaluate(chosen)
    assert len(calls) == len(set(calls)) == 3
    first = pictures(tmp_path / "out")
    evaluate(chosen)  # all is in the log, and nothing was kept
    assert len(calls) == 2 * 3  # each once more
    assert pictures(tmp_path / "out") == first
    evaluate(replace(chosen, out=tmp_path / "two", workers=2))
    assert pictures(tmp_path / "two") == first


def pictures(out: Path) -> list[str]:
    found = re.findall(r'src="([^"]+)"', (out / "report.html").read_text())
    assert len(found) > 6
    return found


def test_kernels_are_from_the_best_to_the_worst() -> None:
    found = results("fidelity", [0.0] * 10, kernel_l1=[0.5, 0.1, 0.9, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 1.0])
    chosen = chosen_kernels(found, "fidelity")
    assert chosen[0] == ("best: L1 0.100", ("Set5", "image0", 1))
    assert chosen[-1] == ("worst: L1 1.000", ("Set5", "image4", 1))
    assert len({key for _, key in chosen}) == len(chosen)
    assert [title for title, _ in chosen_kernels(results("fidelity", [0.0] * 4), "fidelity")] == ["estimate"] * 4


def test_crops_are_where_the_image_has_structure() -> None:
    image = torch.zeros(3, 80, 96)
    image[:, 40:60, 64:90] = torch.rand(20, 26, generator=torch.Generator().manual_seed(0))
    top, left = busiest_window(image, 32, 4)
    assert top % 4 == left % 4 == 0
    assert 28 <= top <= 40
    assert 58 <= left <= 64
    assert busiest_window(image[:, :20, :20], 32, 4) == (0, 0)


def test_a_case_that_cannot_be_made_is_left_out(data: Path) -> None:
    from blinddiff.errors import ImageError
    from blinddiff.evaluation.methods import method

    def lost(key: tuple[str, str, int]) -> Case:
        raise ImageError(f"{key}: gone")

    methods = {name: method(name, Options()) for name in ("bicubic", "lanczos")}
    found = results("bicubic", [0.0]) + results("lanczos", [1.0])
    assert make_report_pictures(found, methods, lost, KeptViews(list(methods), [])).strips == []
