"""`report.md` and `report.html`: one list of blocks, written down twice."""

from blinddiff.evaluation.report.findings import Findings
from blinddiff.evaluation.report.html import as_html
from blinddiff.evaluation.report.markdown import as_markdown
from blinddiff.evaluation.report.page import page
from blinddiff.evaluation.report.tables import overview

__all__ = ["Findings", "as_html", "as_markdown", "overview", "page"]
