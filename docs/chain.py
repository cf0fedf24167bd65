"""Draws chain.svg: what README's section on chains makes of its own example. Run it where conv1x1 is installed."""

import doctest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def picture() -> str:
    """README's `picture`, after its imports and that section have run."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## Chains\n")[2].partition("\n## ")[0].partition("![")[0]
    known: dict[str, Any] = {}
    exec("import numpy as np\nimport conv1x1 as c11", known)
    for example in doctest.DocTestParser().get_examples(section):
        exec(compile(example.source, "README.md", "exec"), known)
    drawn: str = known["picture"]
    return drawn


if __name__ == "__main__":
    (ROOT / "docs" / "chain.svg").write_text(picture() + "\n", encoding="utf-8")
