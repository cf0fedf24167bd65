"""Forks, exits, limits and signals: nothing hangs, nothing is left behind, and every result is right."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conv1x1 import _conv1x1

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what a process is made of")

SETUP = """
import os, resource, signal, sys, threading, time
import numpy as np
from conv1x1 import Conv1x1

def tasks():
    return len(os.listdir("/proc/self/task"))

random = np.random.default_rng(0)
layer = Conv1x1(random.standard_normal((64, 256)).astype("f"))
x = random.standard_normal((20_000, 256)).astype("f")
y = layer(x, threads=1)
assert layer.plan(x, threads=3)["threads"] == 3

def right(threads=3):
    return layer(x, threads=threads).tobytes() == y.tobytes()
"""


def done(run: Any) -> None:
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


# --------------------------------------------------------------------------------------------------- import

IMPORT = """
import atexit, gc, locale, multiprocessing, os, resource, signal, sys, threading, warnings
import ctypes
import numpy as np
import platform, collections.abc, contextlib, typing, html  # the imports of the package that import others

libm = ctypes.CDLL("libm.so.6")

def modes():
    "The word with the floating-point modes and flags: MXCSR, or AArch64's FPCR."
    environment = ctypes.create_string_buffer(64)
    libm.fegetenv(environment)
    return environment[28:32] if platform.machine() == "x86_64" else environment[:4]

def state():
    mask = os.umask(0)
    os.umask(mask)
    return {
        "tasks": os.listdir("/proc/self/task"), "files": os.listdir("/proc/self/fd"), "umask": mask,
        "handlers": [signal.getsignal(n) for n in signal.valid_signals()], "directory": os.getcwd(),
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()), "timers": signal.getitimer(signal.ITIMER_REAL),
        "environment": dict(os.environ), "locale": locale.setlocale(locale.LC_ALL), "rounding": libm.fegetround(),
        "traps": libm.fegetexcept(), "flags": libm.fetestexcept(61), "numpy": np.geterr(),
        "modes": modes(),
        "filters": warnings.filters[:],
        "affinity": os.sched_getaffinity(0), "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "limits": [resource.getrlimit(n) for n in range(16)], "at exit": atexit._ncallbacks(),
        "hooks": (sys.excepthook, threading.excepthook, sys.meta_path[:], sys.path_hooks[:], sys.path[:]),
        "python": (sys.getrecursionlimit(), sys.getswitchinterval()),
        "collector": (gc.get_threshold(), gc.isenabled(), gc.callbacks[:]),
        "start": multiprocessing.get_start_method(allow_none=True),
    }

def compare(before, after):
    assert before == after, {k: (before[k], after[k]) for k in before if before[k] != after[k]}

before = state()
import conv1x1
after = state()
compare(before, after)
layer = conv1x1.Conv1x1(np.ones((64, 256), "f"), activation="gelu")
layer(np.ones((20_000, 256), "f"), threads=1)
compare(before, state())
layer(np.ones((20_000, 256), "f"), threads=3)
after = state()
assert len(after["tasks"]) == len(before["tasks"]) + 2
compare(before | {"tasks": None}, after | {"tasks": None})
assert "threadpoolctl" not in sys.modules
print("done")
"""


def test_import_and_calls_change_nothing_in_the_process(fresh_python: Any) -> None:
    """But for the helper threads of the first large call."""
    done(fresh_python(IMPORT))


NO_CODE_IS_MADE = """
import ctypes
import numpy as np
libc = ctypes.CDLL(None, use_errno=True)
REFUSE_EXEC_GAIN, SET_MDWE = 1, 65
if libc.prctl(SET_MDWE, ctypes.c_ulong(REFUSE_EXEC_GAIN), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
    print("skip")
    raise SystemExit
from conv1x1 import _conv1x1, Conv1x1
from conv1x1.runtime import restricted

def executable():
    with open("/proc/self/maps") as maps:
        return {line.split()[-1] for line in maps if "x" in line.split()[1]}

for kernel in [k["name"] for k in _conv1x1.kernels() if k["supported"]]:
    with restricted(kernel=kernel):
        for channels, filters in [(64, 64), (64, 3), (3, 1)]:
            for dtype in ("f", "d"):
                x = np.ones((2000, channels), dtype)
                assert (Conv1x1(np.ones((filters, channels)), activation="silu")(x, threads=3) > 1).all()
assert not any(name.startswith(("[heap", "[stack", "[anon", "0")) for name in executable()), executable()
print("done")
"""


def test_no_memory_becomes_executable(fresh_python: Any) -> None:
    """The kernel itself refuses it, from before the import on; kernels are compiled, never made."""
    run = fresh_python(NO_CODE_IS_MADE)
    if run.stdout == "skip\n":
        pytest.skip("needs Linux 6.3 or newer")
    done(run)


# ----------------------------------------------------------------------------------------------------- exit

#: Forks TIMES children for each kind of call, that exit with a daemon thread inside it.
EXIT = (
    SETUP
    + """
from conv1x1 import _conv1x1, conv1x1
pixel, as_list = x[:1], x[:1].tolist()
calls = {
    "helped": lambda: layer(x, threads=2),
    "alone": lambda: layer(x, threads=1),
    "small": lambda: layer(pixel),
    "made canonical": lambda: layer(as_list),
    "one shot": lambda: conv1x1(pixel, layer.weight, activation="relu"),
    "planned": lambda: layer.plan(as_list),
    "measured": lambda: _conv1x1.peak_gflops("float32"),
}
codes = {}
for name, call in calls.items():
    for _ in range(int(os.environ["TIMES"])):
        pause = random.random() * 0.01
        pid = os.fork()
        if pid == 0:
            signal.alarm(100)

            def forever():
                while True:
                    call()

            threading.Thread(target=forever, daemon=True).start()
            time.sleep(pause)
            sys.exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            codes[name, code] = codes.get((name, code), 0) + 1
assert not codes, codes
print("done")
"""
)


def test_exit_with_a_daemon_thread_inside_a_call(fresh_python: Any) -> None:
    """Python ends such a thread by unwinding its stack; it must not take the process along."""
    done(fresh_python(EXIT, TIMES="5"))


#: Registered before anything of the package's, this runs after all of its that is destroyed at exit; what is freed is
#: overwritten (MALLOC_PERTURB_).
LATE = """
import ctypes, signal
signal.alarm(50)
libc = ctypes.CDLL(None)
late = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: compute())
libc.__cxa_atexit(late, None, None)
import numpy as np
from conv1x1 import Conv1x1, _conv1x1, conv1x1

w, x = np.ones((8, 64)), np.ones((50, 64))
layers = [Conv1x1(w.astype(t)) for t in (np.float32, np.float64, np.int8)]
pixels = [x.astype(t) for t in (np.float32, np.float64, np.uint8)]
config = _conv1x1.config()
for layer, data in zip(layers, pixels):
    layer(data)

def compute():
    right = _conv1x1.config() == config
    for layer, data in zip(layers, pixels):
        for a in (data, data[1:]):
            right &= layer.plan(a)["threads"] == 1 and bool((layer(a) == 64).all())
            right &= bool((conv1x1(a, layer.weight) == 64).all())
    print("done" if right else "wrong", flush=True)

libc.exit(0)
"""


def test_nothing_that_calls_use_is_destroyed_at_exit(fresh_python: Any) -> None:
    """A thread may still be inside a call then."""
    done(fresh_python(LATE, MALLOC_PERTURB_="165"))


# ----------------------------------------------------------------------------------------------------- fork

FORKS = (
    SETUP
    + """
import subprocess, warnings
warnings.filterwarnings("ignore", message=".*multi-threaded")

def in_child(check):
    pid = os.fork()
    if pid == 0:
        signal.alarm(100)
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

# The function that runs between fork and exec computes, with the pool in use and not, also in another thread.
assert right()
stop, wrong = threading.Event(), []

def busy():
    while not stop.is_set():
        if not right():
            wrong.append(1)

thread = threading.Thread(target=busy)
for _ in range(2):
    for _ in range(5):
        subprocess.run(["true"], preexec_fn=lambda: os._exit(1) if not right() else None, check=True, timeout=100)
    if not thread.is_alive():
        thread.start()
# Two threads fork while a third is inside a call, and children fork as well.
results = []

def helped():
    return right() and tasks() == 3

forkers = [
    threading.Thread(target=lambda: results.extend(in_child(lambda: helped() and in_child(helped)) for _ in range(5)))
    for _ in range(2)
]
for forker in forkers:
    forker.start()
for forker in forkers:
    forker.join()
stop.set()
thread.join()
assert results == [True] * 10 and not wrong

# A signal handler forks, in the middle of a call of the thread that it runs on.
children = []

def fork(*_):
    pid = os.fork()
    if pid == 0:
        signal.alarm(100)
        children.append(None)
    else:
        children.append(pid)

signal.signal(signal.SIGUSR1, fork)
many = np.broadcast_to(x, (20, *x.shape))
parent = os.getpid()
threading.Timer(0.03, lambda: os.kill(parent, signal.SIGUSR1)).start()
expected = np.broadcast_to(y, (20, *y.shape))
results = layer(many, threads=3)
ok = np.array_equal(results, expected) and right()
if None in children:
    os._exit(0 if ok else 1)
while not children:
    time.sleep(0.01)
assert ok and os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
print("done")
"""
)


def test_forks(fresh_python: Any) -> None:
    """Between fork and exec, from two threads at once during a call, nested, and from a signal handler inside one."""
    done(fresh_python(FORKS, OPENBLAS_NUM_THREADS="1"))


POOLS = """
import multiprocessing as mp
import sys
import numpy as np
from conv1x1 import Conv1x1

def call(arguments):
    layer, x = arguments
    return layer(x, threads=2)

if __name__ == "__main__":
    random = np.random.default_rng(0)
    layer = Conv1x1(random.standard_normal((64, 256)).astype("f"), activation="silu")
    x = random.standard_normal((4, 5_000, 256)).astype("f")
    expected = layer(x, threads=2)
    if sys.argv[1] == "loky":
        from joblib import Parallel, delayed
        results = Parallel(n_jobs=2, backend="loky")(delayed(call)((layer, image)) for image in x)
    else:
        with mp.get_context(sys.argv[1]).Pool(2) as pool:
            results = pool.map(call, [(layer, image) for image in x])
    assert np.array_equal(results, expected)
    print("done")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", "loky"])
def test_pools_of_processes(tmp_path: Path, method: str) -> None:
    if method == "loky":
        pytest.importorskip("joblib")
    script = tmp_path / "pools.py"
    script.write_text(POOLS)
    run = subprocess.run([sys.executable, script, method], capture_output=True, text=True, timeout=100, check=False)
    done(run)


# --------------------------------------------------------------------------------------------------- limits

LIMITS = {
    "no more processes": """
before = tasks()
if os.getuid() == 0:  # whom the limit does not hold
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
assert right() and tasks() == before  # alone
resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
assert right() and tasks() == before + 2
""",
    "no more memory": """
before = tasks()
out = np.ones((20_000, 64), "f")
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 20), resource.RLIM_INFINITY))
layer(x, out=out, threads=3)
assert np.array_equal(out, y) and tasks() == before  # no stack for a helper
for _ in range(3):
    try:
        layer(np.broadcast_to(x[:1], (20_000_000, 256)))
        raise AssertionError
    except MemoryError:
        pass
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert right() and tasks() == before + 2
""",
    "no more files": """
from conv1x1 import get_num_threads
before = tasks()
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
assert layer(x).tobytes() == y.tobytes() and get_num_threads() >= 1
assert right() and Conv1x1(layer.weight)(x, threads=3).tobytes() == y.tobytes()
pid = os.fork()
if pid == 0:
    os._exit(0 if right() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
""",
    "small stacks": """
import ctypes
class Attributes(ctypes.Structure):
    _fields_ = [("room", ctypes.c_char * 64)]
libc, attributes = ctypes.CDLL(None), Attributes()
for size in (64 << 10, 1 << 46):  # half of what musl gives; more than there is
    assert libc.pthread_attr_init(ctypes.byref(attributes)) == 0
    assert libc.pthread_attr_setstacksize(ctypes.byref(attributes), ctypes.c_size_t(size)) == 0
    assert libc.pthread_setattr_default_np(ctypes.byref(attributes)) == 0
    pid = os.fork()
    if pid == 0:
        signal.alarm(50)
        from conv1x1 import _conv1x1
        from conv1x1.runtime import restricted
        for kernel in [k for k in _conv1x1.kernels() if k["supported"] and size < 1 << 40]:
            filters = 8 if kernel["method"] == "multiply" else 3
            small, part = Conv1x1(layer.weight[:filters], channel_axis=0, activation="gelu"), x[:1500]
            assert small.plan(part.T, threads=3)["threads"] == 3
            with restricted(kernel=kernel["name"]):
                for turned in (part.T, np.ascontiguousarray(part.T), part[:, ::-1].T):
                    for out in (None, np.empty((1500, filters)).T):
                        ours = small(turned, out=out, threads=3)
                        assert ours.tobytes() == small(turned, out=out, threads=1).tobytes()
        os._exit(0 if right() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, size
""",
    "one CPU": """
assert right()
cpu = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, [cpu])
assert all(right(n) for n in (1, 2, 3, 8) for _ in range(5))
pid = os.fork()
if pid == 0:  # whose helpers are new: none runs where its process may not
    there = right() and tasks() == 3 and [os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")]
    os._exit(0 if there == [{cpu}] * 3 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
""",
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(fresh_python: Any, name: str) -> None:
    """Fewer helpers, or none, or MemoryError; and everything as before once there is room again."""
    done(fresh_python(SETUP + LIMITS[name] + "print('done')", OPENBLAS_NUM_THREADS="1"))


def test_without_proc() -> None:
    """Where /proc is not mounted, only the quota of the top cgroup is seen, and all else works."""
    hidden = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c"]
    mount = "mount -t tmpfs none /proc && exec "
    if (
        not shutil.which("unshare")
        or subprocess.run([*hidden, mount + "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs the right to mount")
    code = SETUP + "assert not os.path.exists('/proc/self') and right(); print('done')"
    run = subprocess.run(
        [*hidden, mount + '"$@"', "sh", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    done(run)


# -------------------------------------------------------------------------------------------------- cgroups


def tree(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


V1 = "12:memory:/a\n4:cpuacct,cpu:/a/b\n0::/\n"
CGROUPS: dict[str, tuple[dict[str, str], int]] = {
    "nothing": ({}, 0),
    "v2, no limit": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, 0),
    "v2, whole": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
    "v2, a part": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "210000 100000\n"}, 3),
    "v2, less than one": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "1000 100000\n"}, 1),
    "v2, of the parent": (
        {
            "proc/self/cgroup": "0::/a/b/c\n",
            "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            "sys/fs/cgroup/a/b/c/cpu.max": "500000 100000\n",
        },
        2,
    ),
    "v2, in a container": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
    "v2, the path of the host": ({"proc/self/cgroup": "0::/kube/pod\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
    "v2, no /proc": ({"sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
    "v1, no limit": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us": "100000\n",
        },
        0,
    ),
    "v1, of its own": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us": "50000\n",
        },
        3,
    ),
    "v1, of the parent": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us": "100000\n",
        },
        2,
    ),
    "v1, in a container": (
        {
            "proc/self/cgroup": "4:cpu:/docker/0123\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        2,
    ),
    "both": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu.max": "900000 100000",
            "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us": "700000\n",
            "sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us": "100000\n",
        },
        7,
    ),
    "nonsense": (
        {
            "proc/self/cgroup": "0:\n::\n\0\0\n0::../..\n4:cpu:" + "/x" * 5000 + "\n",
            "sys/fs/cgroup/cpu.max": "many few\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "\n",
        },
        0,
    ),
    "no period": ({"sys/fs/cgroup/cpu.max": "100000 0"}, 0),
    "a negative quota": ({"sys/fs/cgroup/cpu.max": "-100000 100000"}, 0),
    "not a number": ({"sys/fs/cgroup/cpu.max": "nan 100000"}, 0),
    "more than any machine has": ({"sys/fs/cgroup/cpu.max": "1e300 1"}, 1_000_000),
}


@pytest.mark.parametrize("name", CGROUPS)
def test_cgroup_quotas(tmp_path: Path, name: str) -> None:
    """From a tree of files as the kernel shows them: the least quota of all levels, rounded up; 0 for none."""
    files, cpus = CGROUPS[name]
    assert _conv1x1.cgroup_cpus(tree(tmp_path, files)) == cpus


# -------------------------------------------------------------------------------------------------- signals

CTRL_C = (
    SETUP
    + """
from conv1x1.runtime import restricted
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process that was started in the background ignores it
isa, pixels, channels, filters, threads = sys.argv[1], *map(int, sys.argv[2:])
layer = Conv1x1(np.ones((filters, channels), "f"))
x = np.broadcast_to(np.ones((1, channels), "f"), (pixels, channels))
out = np.ones((pixels, filters), "f")
waited, sent = [], []

def moment():
    "Now, less all the time for which a thread of this process wanted a CPU and others had them."
    delay = 0
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/schedstat") as file:
                delay += int(file.read().split()[1])
        except FileNotFoundError:
            pass
    return time.perf_counter() - delay / 1e9

def press():
    time.sleep(0.1 + 0.02 * len(sent))
    sent.append(moment())
    os.kill(os.getpid(), signal.SIGINT)

with restricted(isa=isa):
    layer(x[:1])
    while sum(seconds < 0.2 for seconds in waited) < 3 and len(waited) < 15:
        thread = threading.Thread(target=press)
        thread.start()
        try:
            while True:
                layer(x, out=out, threads=threads)
        except KeyboardInterrupt:
            waited.append(moment() - sent[-1])
        thread.join()
    assert (layer(x[:100], threads=threads) == channels).all()
print("done" if sum(seconds < 0.2 for seconds in waited) == 3 else waited)
"""
)


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize(
    "case",
    [
        ("portable", "5000", "192", "4096"),
        (_conv1x1.config()["isas_supported"][-1], "250", "256", "200000"),
        (_conv1x1.config()["isas_supported"][-1], "300000", "4096", "3"),
    ],
    ids=lambda case: "-".join(case),
)
def test_ctrl_c_within_200_ms(case: tuple[str, ...], threads: str) -> None:
    """Where units of work would be the longest: slow kernels, very many filters. What others take does not count."""
    run = subprocess.run(
        [sys.executable, "-c", CTRL_C, *case, threads], capture_output=True, text=True, timeout=100, check=False
    )
    done(run)


STORM = (
    SETUP
    + """
class Stop(Exception):
    pass

seen = {"alarms": 0, "others": 0, "stopped": 0, "finished": 0}
may_stop = False  # every other call; one exception for each, and none that comes when the call is over
pixel, out = x[:3], np.empty_like(y)
right_pixel = y[:3].tobytes()

def on_alarm(*_):
    global may_stop
    seen["alarms"] += 1
    assert layer(pixel).tobytes() == right_pixel  # a handler may compute, small
    if seen["alarms"] % 10 == 0:
        assert right()  # and large: on its own, the pool is its caller's
    if may_stop:
        may_stop = False
        raise Stop

def on_other(*_):
    seen["others"] += 1

signal.signal(signal.SIGALRM, on_alarm)
signal.signal(signal.SIGUSR1, on_other)
signal.signal(signal.SIGCHLD, on_other)
stop = threading.Event()

def storm():
    while not stop.wait(0.0002):
        os.kill(os.getpid(), signal.SIGUSR1)

thread = threading.Thread(target=storm)
thread.start()
wide = Conv1x1(random.standard_normal((256, 2048)).astype("f"))  # for calls of more than the 50 ms between two looks
many = np.broadcast_to(random.standard_normal((1, 2048)).astype("f"), (60_000, 2048))
one, out = wide(many[:1]), np.empty((60_000, 256), "f")
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while min(seen.values()) < int(os.environ["TIMES"]):
    stops = seen["stopped"] <= seen["finished"]
    out[[0, -1]] = np.nan
    try:
        may_stop = stops
        wide(many, out=out, threads=3)
        may_stop = False
        assert (out == one).all()
        seen["finished"] += 1
    except Stop:
        seen["stopped"] += out[0, 0] == one[0, 0] and np.isnan(out[-1, -1])  # in the middle of the call
signal.setitimer(signal.ITIMER_REAL, 0)
stop.set()
thread.join()
assert right()
print("done")
"""
)


def test_a_storm_of_signals(fresh_python: Any) -> None:
    """Calls go on or stop where a handler raised; handlers compute too, inside the call that they interrupt."""
    done(fresh_python(STORM, timeout=300, TIMES="5"))


# ---------------------------------------------------------------------------------------------- environment

ENVIRONMENT = """
import os, sys
import numpy
TOO_LONG = [b"9" * 100_000, b"1" * 100_000, b"x" * 100_000]
ODD = [
    b"", b" ", b"\\n", b"0", b"-0", b"+0", b"-1", b"-3", b"--1", b"0x2", b"inf", b"nan", b"true", b"auto", b",", b",1",
    b"\\xff\\xfe", b"%s%n", "\u0662".encode(), b"\\x01", b"$(id)", b"1048577", b"4294967297", b"9223372036854775807",
    b"9223372036854775808", b"18446744073709551617", b"-18446744073709551615", b"-9223372036854775809", *TOO_LONG,
]
NUMBERS = {  # what OpenMP's own number may look like
    b"1": 1, b"2": 2, b"1,4": 1, b"2,\\xff": 2, b" 1": 1, b"\\t\\n1": 1, b"+1": 1, b"1e3": 1, b"1.9": 1, b"0001": 1,
    b"1 ": 1, b"2\\n": 2, b"1;2": 1, b"1048576": 1048576,
}
ISAS = [b"AVX2", b"avx2 ", b" avx2", b"avx2\\n", b"avx2,portable", b"avx51", b"avx1024", b"portablee", b"p"]
count = 0

def imported(name, value):
    "In a child: the number of threads after the import, or minus the length of what the ImportError says."
    global count
    count += 1
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        for other in ("OMP_NUM_THREADS", "CONV1X1_NUM_THREADS", "CONV1X1_MAX_ISA"):
            os.environ.pop(other, None)
        if name:
            os.environb[name.encode()] = value
        try:
            import conv1x1
            said = str(conv1x1.get_num_threads())
        except ImportError as error:
            said = "refused" if str(error).startswith(name) and len(str(error)) > 40 else "without words"
        os.write(write, said.encode())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, (name, value[:50])
    os.close(write)
    said = os.read(read, 100).decode()
    os.close(read)
    return said if said.isalpha() else int(said)

first = imported("", b"")
assert first >= 1
for value in ODD:  # not ours to judge: what is no number is ignored
    assert imported("OMP_NUM_THREADS", value) == first, value[:50]
    assert imported("CONV1X1_NUM_THREADS", value) == "refused", value[:50]
for value, number in NUMBERS.items():
    assert imported("OMP_NUM_THREADS", value) == min(first, number), value
    ours = number if value.isdigit() else "refused"
    assert imported("CONV1X1_NUM_THREADS", value) == ours, value
for value in [*ODD, *NUMBERS, *ISAS]:
    assert imported("CONV1X1_MAX_ISA", value) == "refused", value[:50]
assert imported("CONV1X1_MAX_ISA", b"portable") == first
print("done", count)
"""


def test_hostile_values_in_the_environment(fresh_python: Any) -> None:
    """Whatever the bytes: ours are refused by an import that fails in words, OpenMP's count where they are a number."""
    run = fresh_python(ENVIRONMENT)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.removeprefix("done ")) > 120
