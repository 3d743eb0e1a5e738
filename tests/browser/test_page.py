"""The page, used as a visitor uses it."""

import io
import re
import zipfile
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from blinddiff.imaging import read_image
from blinddiff.sampling.pipeline import MODES

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser").expect
expect.set_options(timeout=60_000)


@pytest.fixture
def photograph(tmp_path):
    exif = Image.Exif()
    exif[315] = "Ada"
    array = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "photo.png", exif=exif)
    return tmp_path / "photo.png"


def test_upload_restore_download(visit, photograph, address):
    visitor = visit()
    visitor.choose(photograph)
    expect(visitor.about).to_contain_text("photo.png: 48 x 40 pixels")
    visitor.page.get_by_label("2", exact=True).check()
    expect(visitor.plan).to_contain_text(re.compile(r"Result: 96 x 80 pixels; 1 tile; .* about \d+ s"))
    visitor.restore()
    visitor.wait_for("Done in")
    expect(visitor.figures).to_contain_text("Kernel widths")
    for name in ("kernel", "residual"):
        picture = visitor.page.locator(f"#{name} img")
        expect(picture).to_have_attribute("alt", re.compile("kernel|minus"))
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 8
    restored = read_image(visitor.download("photo-x2.png"))
    assert restored.pixels.shape == (3, 80, 96)
    assert b"Ada" in restored.exif
    # no other host was contacted, and the console shows no error
    assert visitor.contacted_hosts == {urlsplit(address).netloc}
    assert visitor.console_errors == []


def test_example_and_slider(visit):
    visitor = visit()
    visitor.page.get_by_role("button", name="Flowers").click()
    expect(visitor.about).to_contain_text("flowers.jpg: 192 x 144 pixels")
    expect(visitor.plan).to_contain_text("Result: 768 x 576 pixels")
    visitor.screenshot("chosen")
    visitor.restore()
    visitor.wait_for("Done in", seconds=300)
    slider = visitor.page.locator("#slider")
    for index, name in enumerate(("before", "after")):
        picture = slider.locator("img").nth(index)
        expect(picture).to_have_attribute("src", re.compile(rf"{name}\.jpg$"))
        expect(picture).to_have_js_property("complete", True)
    handle = slider.locator(".outer")
    handle.hover()  # it moves while the pictures load
    before = handle.bounding_box()["x"]
    box = slider.locator("img").first.bounding_box()
    middle = box["y"] + box["height"] / 2
    visitor.page.mouse.move(box["x"] + box["width"] / 2, middle)
    visitor.page.mouse.down()
    visitor.page.mouse.move(box["x"] + box["width"] / 4, middle, steps=5)
    visitor.page.mouse.up()
    assert handle.bounding_box()["x"] < before - box["width"] / 8
    visitor.screenshot("restored")


def test_every_step_is_reported(visit, photograph, gate):
    visitor = visit()
    visitor.choose_with_steps(photograph, 40)
    visitor.record_status()
    visitor.restore()
    for step in (1, 2, 3):  # at any speed of browser and network
        gate.release(1)
        visitor.wait_for(f"Step {step} of 40")
    gate.release(37)
    visitor.wait_for("Done in")
    steps = [int(number) for text in visitor.recorded_statuses() for number in re.findall(r"Step (\d+) of 40", text)]
    assert steps == sorted(steps)
    assert {1, 2, 3} <= set(steps) <= set(range(1, 41))


def test_cancel(visit, photograph, gate):
    visitor = visit()
    visitor.choose_with_steps(photograph, 1000)
    visitor.restore()
    gate.release(1)
    visitor.wait_for("Step 1 of 1000")
    visitor.page.get_by_role("button", name="Cancel").click()
    visitor.wait_for("Cancelled")
    assert gate.stopped.wait(60)
    # the machine is free: the one released call belongs to the short restoration
    visitor.set_steps(1)
    visitor.restore()
    gate.release(1)
    visitor.wait_for("Done in", seconds=60)


def test_bad_file(visit, tmp_path):
    (tmp_path / "notes.png").write_text("no photograph")
    visitor = visit()
    visitor.choose(tmp_path / "notes.png")
    expect(visitor.about.get_by_role("alert")).to_contain_text("notes.png: is not an image of a known format.")
    visitor.restore()
    visitor.wait_for("notes.png: is not an image of a known format.")
    visitor.screenshot("refused")


def test_oversize_file(visit, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(1_100_000))
    visitor = visit()
    visitor.choose(tmp_path / "large.png")
    visitor.page.get_by_text(re.compile("maximum|too large|exceeds", re.IGNORECASE)).first.wait_for()


def test_two_users_at_once(visit, tmp_path):
    """Each gets the result of their own photograph."""
    visitors = []
    for number, side in enumerate((40, 56)):
        path = tmp_path / f"photo{number}.png"
        Image.new("RGB", (side, side), (200 * number, 90, 40)).save(path)
        visitors.append(visit())
        visitors[-1].choose(path)
        visitors[-1].about.filter(has_text=path.name).wait_for()
    for visitor in visitors:
        visitor.restore()
    for visitor, side in zip(visitors, (160, 224), strict=True):
        visitor.wait_for("Done in")
        expect(visitor.figures).to_contain_text(f"{side} x {side} pixels")


def test_narrow_screen(visit):
    visitor = visit(width=360, height=740)
    visitor.page.get_by_role("button", name="Flowers").click()
    expect(visitor.plan).to_contain_text("Result")
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert visitor.page.evaluate("document.documentElement.scrollHeight") <= 1600  # no empty boxes
    visitor.restore()
    visitor.wait_for("Done in", seconds=300)
    for name in ("restore", "cancel", "slider", "kernel"):
        box = visitor.page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 360
    visitor.screenshot("phone")


def test_keyboard_and_labels(visit):
    """Every control has a name, and the keyboard alone gets to a result."""
    visitor = visit()
    nameless = visitor.page.evaluate(
        """() => [...document.querySelectorAll('input, button, textarea, select')]
            .filter(e => e.offsetParent !== null)
            .filter(e => !(e.labels?.length || e.ariaLabel || e.title || e.textContent.trim()
                || e.getAttribute('aria-labelledby')))
            .map(e => e.outerHTML.slice(0, 200))"""
    )
    assert nameless == []
    visitor.page.get_by_role("button", name="Guitar").focus()
    visitor.page.keyboard.press("Enter")
    expect(visitor.about).to_contain_text("guitar.jpg: 144 x 192 pixels")
    visitor.page.get_by_role("button", name="Restore").focus()
    visitor.page.keyboard.press("Enter")
    visitor.wait_for("Done in", seconds=300)
    assert visitor.page.locator("#status [role=status][aria-live=polite]").count() == 1


def test_region_by_two_clicks(visit):
    visitor = visit()
    visitor.page.get_by_role("button", name="Flowers").click()
    expect(visitor.about).to_contain_text("flowers.jpg")
    visitor.page.get_by_role("button", name="The region").click()
    visitor.page.get_by_label("Presses on the photograph").check()
    region = visitor.page.get_by_label("Region: left, top")
    visitor.press(0.25, 0.25)
    expect(region).to_have_value(re.compile(r"^\d+, \d+$"))
    visitor.press(0.75, 0.75)
    expect(region).to_have_value(re.compile(r"^(\d+), (\d+), (\d+), (\d+)$"))
    left, top, width, height = map(int, region.input_value().split(", "))
    assert abs(left - 48) <= 3
    assert abs(top - 36) <= 3
    assert abs(width - 96) <= 4
    assert abs(height - 72) <= 4
    visitor.restore()
    visitor.wait_for("Done in", seconds=300)
    expect(visitor.figures).to_contain_text(f"region {left}, {top}, {width}, {height}")


@pytest.fixture(scope="module")
def untouched_results():
    """The result of the form as it is when the page opens, by network."""
    return {}


@pytest.mark.parametrize(
    ("fold", "field"),
    [("More choices", "Steps"), ("The blur kernel", "Kernel numbers"), ("The region", "Region: left")],
)
def test_a_fold_that_is_opened_and_left_alone_changes_nothing(visit, photograph, untouched_results, fold, field):
    def open_and_choose():
        visitor = visit()
        visitor.choose(photograph)
        expect(visitor.plan).to_contain_text("Result")
        return visitor

    if not untouched_results:
        untouched_results["png"] = open_and_choose().restore_and_download("photo-x4.png")
    visitor = open_and_choose()
    button = visitor.page.get_by_role("button", name=fold)
    button.click()
    expect(visitor.page.get_by_label(field)).to_be_visible()
    assert visitor.restore_and_download("photo-x4.png") == untouched_results["png"]
    # closed again, and a field filled and emptied
    if fold == "More choices":
        for label in ("Steps", "Noise level"):
            visitor.page.get_by_label(label).fill("3")
            visitor.page.get_by_label(label).fill("")
    button.click()
    assert visitor.restore_and_download("photo-x4.png") == untouched_results["png"]


def test_a_photograph_that_is_too_large_is_cropped(visit, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (450, 600, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "large.png")
    visitor = visit()
    visitor.choose(tmp_path / "large.png")
    expect(visitor.about).to_contain_text("large.png: 600 x 450 pixels")
    expect(visitor.plan.get_by_role("alert")).to_contain_text("need 4.3 megapixels; the limit of this server is 2")
    visitor.screenshot("too-large")
    visitor.press(0.4, 0.4)
    expect(visitor.plan).to_contain_text("opposite corner")
    visitor.press(0.5, 0.5)
    part = visitor.page.get_by_label("Part to restore")
    expect(part).to_have_value(re.compile(r"^\d+, \d+, \d+, \d+$"))
    left, top, width, height = map(int, part.input_value().split(", "))
    assert max(abs(left - 240), abs(top - 180), abs(width - 60), abs(height - 45)) <= 6
    expect(visitor.plan).to_contain_text(f"Result: {4 * width} x {4 * height} pixels")
    restored = read_image(visitor.restore_and_download("large-x4.png"))
    assert restored.pixels.shape == (3, 4 * height, 4 * width)


PASTE = """async ({name, data}) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(data)], name, {type: "image/png"}));
    const options = {clipboardData: transfer, bubbles: true, cancelable: true};
    document.body.dispatchEvent(new ClipboardEvent("paste", options));
}"""


def test_paste_from_the_clipboard(visit, photograph, tmp_path):
    """A second photograph is added to the first."""
    visitor = visit()
    visitor.page.evaluate(PASTE, {"name": "pasted.png", "data": list(photograph.read_bytes())})
    expect(visitor.about).to_contain_text("pasted.png: 48 x 40 pixels")
    Image.new("RGB", (64, 32)).save(tmp_path / "second.png")
    visitor.page.evaluate(PASTE, {"name": "second.png", "data": list((tmp_path / "second.png").read_bytes())})
    expect(visitor.about).to_contain_text("2 photographs")
    expect(visitor.plan).to_contain_text("2 results of 0.1 megapixels")


def test_several_photographs(visit, photograph, tmp_path):
    (tmp_path / "notes.png").write_text("no photograph")
    Image.new("RGB", (32, 40), (9, 90, 30)).save(tmp_path / "other.png")
    visitor = visit()
    visitor.choose(photograph, tmp_path / "notes.png", tmp_path / "other.png")
    expect(visitor.about).to_contain_text("3 photographs")
    expect(visitor.plan).to_contain_text("2 results of")
    visitor.restore()
    visitor.wait_for("2 of 3 restored; 1 failed")
    table = visitor.page.get_by_role("table", name="Results")
    expect(table.get_by_role("row")).to_have_count(3)
    expect(table).to_contain_text("notes.png: is not an image of a known format.")
    with zipfile.ZipFile(io.BytesIO(visitor.download("blinddiff-results.zip"))) as archive:
        assert archive.namelist() == ["photo-x4.png", "other-x4.png", "estimates.json"]
        assert archive.read("photo-x4.png") == visitor.download("photo-x4.png")
    visitor.screenshot("several")


def test_a_page_of_a_file_is_chosen(visit, tmp_path):
    pages = [Image.new("RGB", (32 + 8 * number, 40), (60 * number, 90, 30)) for number in range(3)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    visitor = visit()
    visitor.choose(tmp_path / "scan.tif")
    expect(visitor.about).to_contain_text("scan.tif: 32 x 40 pixels; page 1 of 3")
    visitor.page.get_by_label("Page").fill("3")
    expect(visitor.about).to_contain_text("scan.tif: 48 x 40 pixels; page 3 of 3")
    restored = read_image(visitor.restore_and_download("scan-x4.png"))
    assert restored.pixels.shape == (3, 160, 192)


def test_another_size(visit, photograph):
    visitor = visit()
    visitor.choose(photograph)
    expect(visitor.plan).to_contain_text("Result: 192 x 160 pixels")
    visitor.page.get_by_label("Other size").fill("1.5x")
    expect(visitor.plan).to_contain_text("Result: 72 x 60 pixels")
    assert read_image(visitor.restore_and_download("photo-x1.5.png")).pixels.shape == (3, 60, 72)
    visitor.page.get_by_label("Other size").fill("huge")
    expect(visitor.plan.get_by_role("alert")).to_contain_text("Other size 'huge'")


def test_comparison_at_full_size(visit):
    visitor = visit()
    visitor.page.get_by_role("button", name="Flowers").click()
    expect(visitor.plan).to_contain_text("Result")
    assert visitor.page.locator("#slider, #full, #kernel").count() == 0  # before there is a result
    visitor.restore()
    visitor.wait_for("Done in", seconds=300)
    visitor.page.get_by_text("Compare at full size").click()
    before, after = (visitor.page.locator(".pane").nth(index) for index in range(2))
    for pane in (before, after):
        picture = pane.locator("img")
        picture.evaluate("image => image.decode()")
        assert picture.evaluate("image => [image.clientWidth, image.naturalWidth]") == [768, 768]
    before.evaluate("pane => pane.scrollTo(100, 70)")
    visitor.page.wait_for_function("document.querySelectorAll('.pane')[1].scrollLeft === 100")
    assert after.evaluate("pane => pane.scrollTop") == 70


def test_only_modes_of_the_network_are_offered(visit, pipeline):
    labels = visit().page.get_by_role("radio").evaluate_all("radios => radios.map(radio => radio.value)")
    assert [label for label in labels if label in MODES] == pipeline.modes
