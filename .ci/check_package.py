"""The installed package is small, quick to import and quiet: under 20 ms beyond NumPy, no thread.

The compiled core is under 1.3 MB; all of it, with the bytecode of what serves files and other libraries, under 3.5.

The milliseconds are the processor's, and the least of some tries: what else the machine does has no say in them.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

MOST_BYTES, MOST_COMPILED = 3_500_000, 1_300_000
MOST_MILLISECONDS = 20.0
RUNS = 11

IMPORT = """
import json, os, sys, time
start = time.process_time()
import numpy
between = time.process_time()
modules, threads = len(sys.modules), len(os.listdir("/proc/self/task"))
again = time.process_time()
import conv1x1
end = time.process_time()
print(json.dumps([1e3 * (between - start), 1e3 * (end - again), len(sys.modules) - modules,
                  len(os.listdir("/proc/self/task")) - threads]))
"""


def main() -> int:
    """Check the package of this interpreter.

    Returns
    -------
    int
        0 if it is right.
    """
    spec = find_spec("conv1x1")
    assert spec is not None
    assert spec.origin is not None
    sizes = {path: path.stat().st_size for path in Path(spec.origin).parent.rglob("*") if path.is_file()}
    size, compiled = sum(sizes.values()), sum(n for path, n in sizes.items() if path.suffix == ".so")
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True).stdout)
        for _ in range(RUNS)
    ]
    times, counts = zip(*((run[:2], run[2:]) for run in runs), strict=True)
    numpy, beyond = (min(column) for column in zip(*times, strict=True))
    modules, threads = (max(column) for column in zip(*counts, strict=True))
    print(f"installed: {size / 1e6:.2f} MB (at most {MOST_BYTES / 1e6:g}),")
    print(f"  of it compiled: {compiled / 1e6:.2f} MB (at most {MOST_COMPILED / 1e6:g})")
    print(f"import conv1x1: {beyond:.1f} ms (at most {MOST_MILLISECONDS:g}) and {modules:g} modules after NumPy's")
    print(f"  {numpy:.0f} ms; least of {RUNS}. Where the time goes: python -X importtime -c 'import numpy, conv1x1'")
    print(f"threads started by the import: {threads:g}")
    small = size < MOST_BYTES and compiled < MOST_COMPILED
    return 0 if small and beyond < MOST_MILLISECONDS and threads == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
