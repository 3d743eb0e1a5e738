"""The page, used as a visitor uses it."""

import re
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from blinddiff.imaging import read_image

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
    visitor.wait_for("photo.png: 48 x 40 pixels")
    visitor.page.get_by_label("2", exact=True).check()
    visitor.restore()
    visitor.wait_for("Done in")
    expect(visitor.figures).to_contain_text("Kernel widths")
    for name in ("kernel", "residual"):
        picture = visitor.page.locator(f"#{name} img")
        expect(picture).to_have_attribute("alt", re.compile("kernel|minus"))
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 8
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("row").filter(has_text="photo-x2").get_by_role("link").first.click()
    restored = read_image(download.value.path().read_bytes())
    assert restored.pixels.shape == (3, 80, 96)
    assert b"Ada" in restored.exif
    # no other host was contacted, and the console shows no error
    assert visitor.contacted_hosts == {urlsplit(address).netloc}
    assert visitor.console_errors == []


def test_example_and_slider(visit):
    visitor = visit()
    visitor.page.get_by_role("button", name="Flowers").click()
    visitor.wait_for("flowers.jpg: 192 x 144 pixels")
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
    toast = visitor.page.get_by_text("notes.png: is not an image of a known format.")
    toast.first.wait_for()
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
        visitors[-1].wait_for(path.name)
    for visitor in visitors:
        visitor.restore()
    for visitor, side in zip(visitors, (160, 224), strict=True):
        visitor.wait_for("Done in")
        expect(visitor.figures).to_contain_text(f"{side} x {side} pixels")


def test_narrow_screen(visit):
    visitor = visit(width=360, height=740)
    visitor.page.get_by_role("button", name="Flowers").click()
    visitor.wait_for("flowers.jpg")
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 360
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
    visitor.wait_for("guitar.jpg: 144 x 192 pixels")
    visitor.page.get_by_role("button", name="Restore").focus()
    visitor.page.keyboard.press("Enter")
    visitor.wait_for("Done in", seconds=300)
    assert visitor.page.locator("#status [role=status][aria-live=polite]").count() == 1


def test_region_by_two_clicks(visit):
    visitor = visit()
    visitor.page.get_by_role("button", name="Flowers").click()
    visitor.wait_for("flowers.jpg")
    visitor.page.get_by_role("button", name="The region").click()
    picture = visitor.page.locator("#photograph img")
    region = visitor.page.get_by_label("Region: left, top")
    expect(picture).to_have_js_property("complete", True)
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.25})
    expect(region).to_have_value(re.compile(r"^\d+, \d+$"))
    expect(picture).to_have_js_property("complete", True)  # replaced by one with the corner
    picture.click(position={"x": box["width"] * 0.75, "y": box["height"] * 0.75})
    expect(region).to_have_value(re.compile(r"^(\d+), (\d+), (\d+), (\d+)$"))
    left, top, width, height = map(int, region.input_value().split(", "))
    assert abs(left - 48) <= 3
    assert abs(top - 36) <= 3
    assert abs(width - 96) <= 4
    assert abs(height - 72) <= 4
    visitor.restore()
    visitor.wait_for("Done in", seconds=300)
    expect(visitor.figures).to_contain_text(f"region {left}, {top}, {width}, {height}")
