"""The benchmark of devices measures every mode, size and precision."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark_gpu.py"


def test_it_records_every_combination(tiny_weights: Path, tmp_path: Path) -> None:
    options = (
        "--device cpu --modes fast perceptual --sizes 32 64 --dtypes float32 bfloat16 --compare-up-to 32 --repeats 1"
    )
    command = [
        sys.executable,
        str(SCRIPT),
        *options.split(),
        "--weights",
        str(tiny_weights),
        "--out",
        str(tmp_path / "a"),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    record = json.loads((tmp_path / "a").read_text())
    assert (record["device"], record["cuda"] is None or isinstance(record["cuda"], str)) == ("cpu", True)
    rows = record["rows"]
    found = [(row["dtype"], row["size"], row["mode"]) for row in rows]
    assert found == [(d, s, m) for d in ("float32", "bfloat16") for s in (32, 64) for m in ("fast", "perceptual")]
    for row in rows:
        assert 0 < row["least"] <= row["seconds"] <= row["largest"]
        difference = row.get("rms_difference_grey_levels")
        if row["size"] == 64:
            assert difference is None
        else:
            assert difference == 0 if row["dtype"] == "float32" else 0 < difference < 20
