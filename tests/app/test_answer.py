"""What the page is given, file by file."""

import numpy as np
from PIL import Image

from blinddiff.app.answer import answer_of_result, answer_of_step
from blinddiff.app.asked import Asked
from blinddiff.app.limits import Limits
from blinddiff.app.restoring import restore


def test_a_file_that_was_announced_is_not_written_again(tiny_pipeline, tmp_path):
    """A browser may be reading it: a file cut short under it ends the answer too early."""
    array = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "photo.png")
    folder = tmp_path / "result"
    folder.mkdir()
    written = {}

    def on_step(step):
        answer_of_step(step, folder)
        written.update({path: path.stat().st_mtime_ns for path in folder.iterdir() if path not in written})

    done = restore(tiny_pipeline, Asked(tmp_path / "photo.png", scale=2, steps=3), Limits(), on_step)
    assert {path.name for path in written} == {"before.jpg", "step-1.jpg", "step-2.jpg", "step-3.jpg"}
    answer = answer_of_result(done, "png", folder)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert answer.slider[0] == str(folder / "before.jpg")
