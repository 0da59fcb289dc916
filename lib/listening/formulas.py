"""What an exported page does without: formulas as MathML, which browsers show by themselves where no network and so no
MathJax is, and no code of the cells that are folded in JupyterLab.
"""

import re

from latex2mathml.converter import convert
from nbconvert.preprocessors import Preprocessor

PARTS = re.compile(
    r"(?P<code>```.*?```|`[^`\n]*`)"  # stays as it is
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?<!\\)\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$(?!\d)",  # and no pair of prices: $5 and $6
    re.DOTALL,
)


class ToMathML(Preprocessor):
    """Used by `workbook.py run`: `jupyter nbconvert --HTMLExporter.preprocessors lib.listening.formulas.ToMathML`."""

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type == "markdown":
            cell.source = with_mathml(cell.source)
        return cell, resources


class Folded(Preprocessor):
    """Leaves out the code of cells that are folded in JupyterLab (the Colab cell, chapter 0's first ones). What they
    show stays. A page has nothing to unfold them by.
    """

    def preprocess_cell(self, cell, resources, index):
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata["transient"] = {"remove_source": True}
        return cell, resources


def with_mathml(text):
    """`text` (markdown) with its formulas, written as LaTeX, as MathML."""
    return PARTS.sub(_one, text)


def _one(found):
    if found["code"]:
        return found[0]
    block = found["block"] is not None
    made = convert((found["block"] or found["inline"]).strip(), display="block" if block else "inline")
    return made.replace("*", "&#42;").replace("_", "&#95;")  # which would be markdown's own marks
