"""The page in a real browser: the system's Chromium, driven by Playwright."""

import io
import os
import shutil
import threading
from pathlib import Path

import pytest
from PIL import Image

from blinddiff.app import Limits
from blinddiff.app.server import served
from blinddiff.app.threads import Stopped, check_stop, stop_requested
from blinddiff.sampling.pipeline import BlindDiffPipeline

LIMITS = Limits(megapixels=2, upload_megabytes=1, queue=8, seconds=300)
SCREENSHOTS = os.environ.get("BLINDDIFF_SCREENSHOTS")
"""If set: a folder for screenshots; the page then uses the package's own weights."""


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium_path():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.fail("no Chromium: `make test-browser` installs it, or says how")


@pytest.fixture(scope="session")
def pipeline(request):
    return BlindDiffPipeline.from_pretrained() if SCREENSHOTS else request.getfixturevalue("tiny_pipeline")


@pytest.fixture(scope="session")
def address(pipeline):
    with served(pipeline, limits=LIMITS) as address:
        yield address


class CallGate:
    """A hook that blocks each call of a network in a restoration until it is released, so that the page stays as it is.

    Attributes:
        stopped: set when a blocked call has been stopped.
    """

    def __init__(self):
        self.stopped = threading.Event()
        self._calls = threading.Semaphore(0)

    def release(self, calls):
        self._calls.release(calls)

    def __call__(self, *_):
        if stop_requested.get() is None:  # measures the speed for a plan
            return
        try:
            while not self._calls.acquire(timeout=0.05):
                check_stop()
        except Stopped:
            self.stopped.set()
            raise


@pytest.fixture
def gate(pipeline):
    gate = CallGate()
    hook = pipeline.network.register_forward_pre_hook(gate)
    yield gate
    hook.remove()
    gate.release(1)  # a call that a failed test has left blocked


@pytest.fixture(scope="session")
def browser(chromium_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser")
    with playwright.sync_playwright() as driver:
        # Without the sandbox, so that it runs as root too; it opens only this page.
        browser = driver.chromium.launch(executable_path=chromium_path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def save_screenshot(page, name):
    """A picture for the documentation: small, in few colours."""
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        picture.thumbnail((900, 4000), Image.Resampling.LANCZOS)
        picture.quantize(128).save(Path(SCREENSHOTS) / f"{name}.png", optimize=True)


@pytest.fixture
def screenshot():
    return save_screenshot


class Visitor:
    """The tab of one visitor."""

    def __init__(self, browser, address, width=1200, height=900):
        self.context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        self.page = self.context.new_page()
        self.contacted_hosts = set()
        self.console_errors = []
        self.page.on("request", lambda request: self.contacted_hosts.add(request.url.split("/")[2]))
        self.page.on("console", lambda line: self.console_errors.append(line.text) if line.type == "error" else None)
        self.page.set_default_timeout(60_000)
        self.page.goto(address)
        self.page.get_by_role("button", name="Restore").wait_for()

    @property
    def status(self):
        return self.page.locator("#status")

    @property
    def figures(self):
        return self.page.get_by_role("table", name="What was found")

    @property
    def about(self):
        """What the page says about the chosen photographs."""
        return self.page.locator("#about")

    @property
    def plan(self):
        """The size and time to expect, or what is wrong."""
        return self.page.locator("#plan")

    def choose(self, *paths):
        self.page.locator("#upload input[type=file]").set_input_files(paths)

    def press(self, across, down):
        """Press the photograph at a share of its width and height."""
        picture = self.page.locator("#photograph img")
        picture.evaluate("image => image.decode()")
        box = picture.bounding_box()
        picture.click(position={"x": box["width"] * across, "y": box["height"] * down})

    def download(self, name):
        """The content of a file that a link offers."""
        with self.page.expect_download() as download:
            self.page.get_by_role("link", name=name).first.click()
        return download.value.path().read_bytes()

    def restore_and_download(self, name, seconds=120):
        self.restore()
        self.wait_for("Done in", seconds)
        return self.download(name)

    def restore(self):
        self.page.get_by_role("button", name="Restore").click()

    def wait_for(self, words, seconds=120):
        """Wait for a text that stays; one displayed for a moment may be missed."""
        self.status.filter(has_text=words).wait_for(timeout=seconds * 1000)

    def record_status(self):
        """Record every text of the status from now on, however short it is displayed, for `recorded_statuses`."""
        self.status.evaluate(
            """status => {
                window.statuses = [];
                new MutationObserver(() => window.statuses.push(status.innerText))
                    .observe(status, {childList: true, subtree: true, characterData: true});
            }"""
        )

    def recorded_statuses(self):
        return self.page.evaluate("window.statuses")

    def choose_with_steps(self, path, steps):
        self.choose(path)
        self.about.filter(has_text=path.name).wait_for()
        self.page.get_by_role("button", name="More choices").click()
        self.set_steps(steps)

    def set_steps(self, steps):
        self.page.get_by_label("Steps").fill(str(steps))

    def screenshot(self, name):
        save_screenshot(self.page, name)


@pytest.fixture
def visit(browser, address):
    visitors = []

    def visit(**size):
        visitors.append(Visitor(browser, address, **size))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.context.close()
