"""No file, class or function is too long to be read: 450, 250 and 60 lines, kernels and tests aside.

A docstring counts in a file and in a class, but not in the function that has it.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOST = {"file": 450, "class": 250, "function": 60}


def in_python(text: str) -> Iterator[tuple[str, str, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            yield "class", node.name, (node.end_lineno or 0) - node.lineno + 1
        elif isinstance(node, ast.FunctionDef):
            first = node.body[1 if ast.get_docstring(node) is not None and len(node.body) > 1 else 0]
            yield "function", node.name, (node.end_lineno or 0) - first.lineno + 1


def in_cpp(text: str) -> Iterator[tuple[str, str, int]]:
    """By clang-format's layout: what is at the left margin, and in classes two spaces further."""
    for indent in ("", "  "):
        start, head = 0, ""
        for number, line in enumerate(text.splitlines(), 1):
            if not start and re.match(rf"{indent}\w.*{{$", line) and not re.match(r"\s*(namespace|extern|\w+:)", line):
                start, head = number, line.strip()
            elif start and re.match(rf"{indent}}}[;)]*$", line):
                kind = "class" if re.match(r"(template.*> )?(class|struct)\b", head) else "function"
                yield kind, head, number - start + 1
                start = 0


def main() -> int:
    """Check the tree.

    Returns
    -------
    int
        0 if nothing is too long.
    """
    too_long = []
    for path in sorted((ROOT / "python").rglob("*.py")) + sorted((ROOT / "cpp").rglob("*.*")):
        if path.suffix not in {".py", ".cpp", ".h"} or {"kernels", "tests"} & {*path.parts}:
            continue
        text = path.read_text()
        found = [("file", "", len(text.splitlines())), *(in_python if path.suffix == ".py" else in_cpp)(text)]
        too_long += [(path.relative_to(ROOT), *one) for one in found if one[2] > MOST[one[0]]]
    for path, kind, name, lines in too_long:
        print(f"{path}: {kind} {name} of {lines} lines, at most {MOST[kind]}")
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
