"""Fill in the figures that documents quote from committed records.

python scripts/quote_figures.py README.md docs/*.md
python scripts/quote_figures.py --check README.md docs/*.md

With --check, documents are not changed; those that differ from their records are listed. A table is enclosed by two
comments. The first one, on one line, specifies the table. Paths are relative to the working directory, which must be
the root of the repository:

    <!-- figures: results/benchmarks/gaussian8_x4/record.json rows=bicubic,fidelity columns=Set5/psnr_y -->
    <!-- end of figures -->

A row is a method. A column is SET/METRIC (a mean), SET/METRIC/METHOD (the paired difference from that method, with its
interval) or cost/KEY (of `COSTS`). A single figure in running text is written

    <!-- figure: results/benchmarks/gaussian8_x4/record.json fidelity Set14/psnr_y -->26.6<!-- end of figure -->

A table of published results is enclosed by these comments. The first form adds rows of a record, which must have the
whole test set:

    <!-- published: results/benchmarks/gaussian8_x4/record.json Set14 rows=bicubic,fidelity -->
    <!-- published: div2krk 4 DIV2KRK -->
    <!-- end of published -->
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blinddiff.errors import BlindDiffError, ParameterError
from blinddiff.evaluation.data import SETS
from blinddiff.evaluation.published_results import published_results
from blinddiff.evaluation.report import Table, heading, published_comparison, with_interval
from blinddiff.evaluation.statistics import METRICS, Estimate, SetSummary
from blinddiff.files import write_file

TABLE = re.compile(r"(<!-- figures: (?P<what>[^>]*?) -->\n)(?P<old>.*?)(<!-- end of figures -->)", re.DOTALL)
SINGLE = re.compile(r"(<!-- figure: (?P<what>[^>]*?) -->)(?P<old>[^<]*)(<!-- end of figure -->)")
PUBLISHED = re.compile(r"(<!-- published: (?P<what>[^>]*?) -->\n)(?P<old>.*?)(<!-- end of published -->)", re.DOTALL)
COSTS = {
    "seconds": ("time for 256x256 (s)", "{:.2f}"),
    "cpu_seconds": ("CPU time for 256x256 (s)", "{:.2f}"),
    "calls": ("network calls", "{:d}"),
    "gmacs": ("GMACs for 256x256", "{:.1f}"),
    "parameters": ("parameters", "{:,d}"),
    "peak_mib": ("peak memory (MiB)", "{:.0f}"),
}


def quote(document: str, root: Path, where: str = "document") -> str:
    """The document with every quoted figure replaced by that of the records below `root`.

    Raises ParameterError, naming the document and the comment, for missing records, methods or columns.
    """
    opened = len(re.findall(r"<!-- (figures?|published):", document))
    if opened != sum(len(pattern.findall(document)) for pattern in (TABLE, SINGLE, PUBLISHED)):
        raise ParameterError(f"{where}: a '<!-- figures: ... -->' has no '<!-- end of figures -->' of its kind")

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}{_table(match['what'], root, where)}\n{match[4]}"

    def single(match: re.Match[str]) -> str:
        return f"{match[1]}{_single(match['what'], root, where)}{match[4]}"

    def published(match: re.Match[str]) -> str:
        return f"{match[1]}{_published(match['what'], root, where)}\n{match[4]}"

    return PUBLISHED.sub(published, SINGLE.sub(single, TABLE.sub(table, document)))


def _table(what: str, root: Path, where: str) -> str:
    path, *options = what.split()
    given = dict(option.partition("=")[::2] for option in options)
    if set(given) != {"rows", "columns"}:
        raise ParameterError(f"{where}: 'figures: {what}': RECORD rows=... columns=... is accepted")
    record = _record(root / path, where)
    columns = given["columns"].split(",")
    rows = [
        [row, *(_cell(record, row, column, f"{where}: {path}") for column in columns)]
        for row in given["rows"].split(",")
    ]
    return Table(["", *(_heading(column, f"{where}: {path}") for column in columns)], rows).markdown()


def _single(what: str, root: Path, where: str) -> str:
    parts = what.split()
    if len(parts) != 3:
        raise ParameterError(f"{where}: 'figure: {what}': RECORD METHOD COLUMN is accepted")
    path, method, column = parts
    found = _cell(_record(root / path, where), method, column, f"{where}: {path}")
    if not found:
        raise ParameterError(f"{where}: {path}: {method} has no {column}")
    return found


def _published(what: str, root: Path, where: str) -> str:
    words = what.split()
    if len(words) != 3 or not (words[1].isdecimal() or words[2].startswith("rows=")):
        raise ParameterError(f"{where}: 'published: {what}': RECORD SET rows=... or PROTOCOL SCALE SET is accepted")
    if words[1].isdecimal():
        protocol, scale, set_name = words[0], int(words[1]), words[2]
        summary, labels, share = SetSummary(set_name, {}, {}, {}), [], ""
    else:
        record, set_name, methods = _record(root / words[0], where), words[1], words[2].removeprefix("rows=").split(",")
        described = record["fingerprint"]["protocol"]
        protocol, scale, labels = described["name"], described["scale"], described["parameters"]
        images = record["data"].get(set_name, {"images": 0})["images"]
        if images < SETS[set_name].full:
            raise ParameterError(f"{where}: {words[0]} has {images} of the {SETS[set_name].full} images of {set_name}")
        summary, share = summary_of(record, set_name, methods), f"{images} images"
    table = published_comparison(published_results(protocol, scale, set_name), labels, summary, share)
    if table is None:
        raise ParameterError(f"{where}: no published results of {protocol} x{scale} on {set_name}")
    return table.markdown()


def summary_of(record: dict[str, Any], set_name: str, methods: Sequence[str]) -> SetSummary:
    """The means of a record for one of its sets, with the named methods only."""
    found = next(one for one in record["sets"] if one["set"] == set_name)
    means = {m: {name: Estimate(**value) for name, value in found["means"][m].items()} for m in methods}
    by_parameter = {m: {int(i): value for i, value in found["psnr_y_by_parameter"][m].items()} for m in methods}
    return SetSummary(set_name, means, by_parameter, {})


def _record(path: Path, where: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ParameterError(f"{where}: {path}: no record of blinddiff evaluate ({error})") from error
    return record


def _heading(column: str, where: str) -> str:
    set_name, metric, baseline = _column(column, where)
    if set_name == "cost":
        return COSTS[metric][0]
    against = f", minus {baseline}" if baseline else ""
    return f"{set_name} {heading(METRICS[metric])}{against}"


def _column(column: str, where: str) -> tuple[str, str, str]:
    set_name, _, rest = column.partition("/")
    metric, _, baseline = rest.partition("/")
    if metric not in (COSTS if set_name == "cost" else METRICS):
        raise ParameterError(f"{where}: column '{column}': SET/METRIC, SET/METRIC/METHOD or cost/KEY is accepted")
    return set_name, metric, baseline


def _cell(record: dict[str, Any], method: str, column: str, where: str) -> str:
    """The figure as text; empty if the method has none."""
    set_name, metric, baseline = _column(column, where)
    if method not in record["methods"]:
        raise ParameterError(f"{where}: method '{method}' is not in the record")
    if set_name == "cost":
        value = record["costs"].get("methods", {}).get(method, {}).get(metric)
        return "" if value is None else COSTS[metric][1].format(value)
    found = next((one for one in record["sets"] if one["set"] == set_name), None)
    if found is None:
        raise ParameterError(f"{where}: set '{set_name}' is not in the record")
    digits = METRICS[metric].digits
    if not baseline:
        estimate = found["means"].get(method, {}).get(metric)  # a method may be left out of a set
        return "" if estimate is None else f"{estimate['mean']:.{digits}f}"
    if method == baseline:
        return ""
    for pair in found["differences"].get(metric, []):
        e = pair["estimate"]
        if (pair["method"], pair["baseline"]) == (method, baseline):
            return with_interval(e["mean"], e["low"], e["high"], digits)
        if (pair["baseline"], pair["method"]) == (method, baseline):
            return with_interval(-e["mean"], -e["high"], -e["low"], digits)
    raise ParameterError(f"{where}: no paired difference of {method} from {baseline} in {metric}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if the documents agree with their records, 1 if `--check` found another figure, 2 for an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", nargs="+", type=Path, metavar="FILE", help="Markdown files")
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    args = parser.parse_args(arguments)
    different = []
    try:
        for path in args.documents:
            try:
                old = path.read_text(encoding="utf-8")
            except OSError as error:
                raise ParameterError(f"{path}: cannot be read ({error.strerror})") from error
            new = quote(old, Path.cwd(), str(path))
            if new != old:
                different.append(path)
                if not args.check:
                    write_file(path, new.encode())
    except BlindDiffError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in different:
        print(f"{path}: {'quotes other figures than its records hold' if args.check else 'figures filled in'}")
    return 1 if args.check and different else 0


if __name__ == "__main__":
    sys.exit(main())
