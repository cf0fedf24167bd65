"""The kernel objects of a build keep to themselves: ``python check_objects.py BUILD-DIRECTORY``.

Each is compiled for an instruction set that the machine may lack, so it must export its one table and nothing else
(the linker keeps one copy of a function that several objects export, maybe the one that this CPU cannot run), run
nothing by itself before the table is asked for, and call nothing but a few functions of C.
"""

import subprocess
import sys
from pathlib import Path

from conv1x1 import _conv1x1

ALLOWED = {"fma", "fmaf", "memcpy", "memmove", "memset", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}
INITIALISERS = ("_GLOBAL__sub_I", "_GLOBAL__I", ".init_array", ".preinit_array", ".ctors")  # functions, sections


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def complaints(path: Path, isa: str) -> list[str]:
    """What is wrong with the object of an instruction set."""
    symbols = [line.split()[:2] for line in output("nm", "-P", str(path)).splitlines()]
    name = f"conv1x1_{isa}"
    expected = f"_ZN7conv1x1{len(name)}{name}E"
    # nm writes global symbols in capitals, but for unique ones (u), indirect ones (i) and some weak ones (v, w).
    exported = {symbol: kind for symbol, kind in symbols if (kind.isupper() and kind != "U") or kind in "uivw"}
    found = [f"exports {symbol} ({kind})" for symbol, kind in sorted(exported.items()) if symbol != expected]
    if exported.get(expected) not in {"D", "R"}:
        found.append(f"does not export {expected}")
    wanted = {symbol for symbol, kind in symbols if kind == "U"} - ALLOWED
    found += [f"calls {symbol}" for symbol in sorted(wanted)]
    sections = [word for line in output("objdump", "-h", str(path)).splitlines() for word in line.split()[1:2]]
    names = [symbol for symbol, _ in symbols] + sections
    found += [f"runs something before it is asked, {name}" for name in names if name.startswith(INITIALISERS)]
    return found


def main(build: Path) -> int:
    """Check them all.

    Returns
    -------
    int
        0 if they are right.
    """
    objects = {path.name.partition(".")[0]: path for path in sorted(build.glob("CMakeFiles/conv1x1_*.dir/**/*.o"))}
    built = _conv1x1.config()["isas_built"]
    if set(objects) != set(built):
        print(f"{build} holds objects for {sorted(objects)}, the package was built with {sorted(built)}")
        return 1
    wrong = 0
    for isa, path in objects.items():
        found = complaints(path, isa)
        print(f"{isa}: {'; '.join(found[:8]) or 'exports its table only'}")
        wrong += len(found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
