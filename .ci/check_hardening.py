"""The installed module is hardened: ``python check_hardening.py BUILD-DIRECTORY``.

Full relro, no code on the stack, no search path of its own, nothing exported but the entry for
Python (and what C++ shares), canaries on the stack; and, looked up in the commands of its build since no call in it
needs one today, checked copies.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from conv1x1 import _conv1x1


def readelf(what: str) -> str:
    """What readelf says of the module."""
    return subprocess.run(["readelf", "-W", what, _conv1x1.__file__], check=True, capture_output=True, text=True).stdout


def complaints(build: Path) -> list[str]:
    """What is missing."""
    segments, dynamic, symbols = readelf("-l"), readelf("-d"), readelf("--dyn-syms")
    stack = re.search(r"GNU_STACK(?:\s+0x\w+){5}\s+(\w+)", segments)
    exported = re.findall(r" GLOBAL +DEFAULT +\d+ (\S+)", symbols)
    commands = json.loads((build / "compile_commands.json").read_text())
    core = [c["command"] for c in commands if "/kernels/" not in c["file"]]
    wanted = {
        "relro": "GNU_RELRO" in segments,
        "binding at load time": re.search(r"\(FLAGS(_1)?\).*\b(BIND_)?NOW\b", dynamic),
        "a stack without code": stack and "E" not in stack[1],
        "no search path of its own": not re.search(r"\((RPATH|RUNPATH)\)", dynamic),
        "one export": exported == ["PyInit__conv1x1"],
        "canaries": "__stack_chk_fail" in symbols,
        "checked copies": core and all(re.search(r"-D_FORTIFY_SOURCE=[23]\b", command) for command in core),
    }
    return [name for name, there in wanted.items() if not there]


def main(build: Path) -> int:
    """Check the module of this interpreter.

    Returns
    -------
    int
        0 if it is right.
    """
    missing = complaints(build)
    print(f"missing: {', '.join(missing)}" if missing else "relro, now, no code on the stack, canaries, checked copies")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
