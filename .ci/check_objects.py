"""The kernel objects of a build keep to themselves: ``python check_objects.py BUILD-DIRECTORY [PREFIX ISA…]``.

Each is compiled for an instruction set that the machine may lack, so it must export its one table and nothing else
(the linker keeps one copy of a function that several objects export, maybe the one that this CPU cannot run), run
nothing by itself before the table is asked for, and call nothing but a few functions of C. On x86-64 no instruction
stands where it must not: AVX only in the objects of AVX2 and AVX-512, AVX-512 only in its own.

For a build for another processor, PREFIX is how the names of its tools begin, and ISA… are what must have been built.
"""

import platform
import re
import subprocess
import sys
from pathlib import Path

from conv1x1 import _conv1x1

ALLOWED = {"fma", "fmaf", "memcpy", "memmove", "memset", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}
INITIALISERS = ("_GLOBAL__sub_I", "_GLOBAL__I", ".init_array", ".preinit_array", ".ctors")  # functions, sections

# What is above x86-64's baseline, SSE2, in objdump's lines. By the first byte: c4 or c5 for
# AVX and BMI, 62 for AVX-512 except what moves masks. What came between SSE2 and AVX has only its names.
AVX = r":\t(6[457] )*c[45] "
AVX512 = r":\t(6[457] )*62 |%k[0-7]"
SSE3_TO_SSE4 = (
    r"\t(addsub|hadd|hsub|movs[hl]dup|movddup|lddqu|palignr|pabs|psign|phadd|phsub|phmin|pshufb|pmadd?ubsw|pmulhrsw|"
    r"p?blend|dpp|insertps|extractps|movntdqa|mpsadbw|packusdw|pcmp(eqq|gtq|[ei]str)|pextr[bdq]|pinsr[bdq]|"
    r"p(max|min)(s[bd]|u[wd])|pmov[sz]x|pmuldq|pmulld|ptest|round[ps][sd]|aes|pclmul|sha\d|crc32|popcnt)"
)
BASELINE = "|".join((AVX, AVX512, SSE3_TO_SSE4))


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def complaints(path: Path, isa: str, prefix: str) -> list[str]:
    """What is wrong with the object of an instruction set."""
    symbols = [line.split()[:2] for line in output(prefix + "nm", "-P", str(path)).splitlines()]
    name = f"conv1x1_{isa}"
    expected = f"_ZN7conv1x1{len(name)}{name}E"
    # nm writes global symbols in capitals, but for unique ones (u), indirect ones (i) and some weak ones (v, w).
    exported = {symbol: kind for symbol, kind in symbols if (kind.isupper() and kind != "U") or kind in "uivw"}
    found = [f"exports {symbol} ({kind})" for symbol, kind in sorted(exported.items()) if symbol != expected]
    if exported.get(expected) not in {"D", "R"}:
        found.append(f"does not export {expected}")
    wanted = {symbol for symbol, kind in symbols if kind == "U"} - ALLOWED
    found += [f"calls {symbol}" for symbol in sorted(wanted)]
    sections = [word for line in output(prefix + "objdump", "-h", str(path)).splitlines() for word in line.split()[1:2]]
    names = [symbol for symbol, _ in symbols] + sections
    found += [f"runs something before it is asked, {name}" for name in names if name.startswith(INITIALISERS)]
    return found


def foreign_instructions(path: Path, isa: str) -> list[str]:
    """The instructions of an object that a CPU with no more than this instruction set lacks."""
    if isa.startswith("avx512"):
        return []
    foreign = AVX512 if isa == "avx2" else BASELINE
    lines = output("objdump", "-d", "-w", str(path)).splitlines()
    return [f"has {line.expandtabs(1).strip()}" for line in lines if re.search(foreign, line)]


def main(build: Path, prefix: str = "", *isas: str) -> int:
    """Check them all.

    Returns
    -------
    int
        0 if they are right.
    """
    objects = {path.name.partition(".")[0]: path for path in sorted(build.glob("CMakeFiles/conv1x1_*.dir/**/*.o"))}
    built = isas or _conv1x1.config()["isas_built"]
    if set(objects) != set(built):
        print(f"{build} holds objects for {sorted(objects)}, {sorted(built)} should have been built")
        return 1
    on_x86, wrong = not prefix and platform.machine() == "x86_64", 0
    for isa, path in objects.items():
        found = complaints(path, isa, prefix) + (foreign_instructions(path, isa) if on_x86 else [])
        print(f"{isa}: {'; '.join(found[:8]) or 'exports its table only' + ', no foreign instruction' * on_x86}")
        wrong += len(found)
    if not on_x86:
        return 1 if wrong else 0
    core = sorted(set(build.glob("CMakeFiles/*.dir/cpp/**/*.o")) - set(objects.values()))
    found = [f"{path.name} {complaint}" for path in core for complaint in foreign_instructions(path, "baseline")]
    print(f"{len(core)} other objects: {'; '.join(found[:8]) or 'nothing above the baseline'}")
    return 1 if wrong or found or not core else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
