# ruff: noqa: E501
"""Programs that try to be rewarded without the answer, a random word that no program can work out.

This file is longer than others may be: it is a list of programs, which read best side by side. Each defines
``attack``, whose value the tests get and which is printed where the program is run as a script; ``@`` stands
for a directory with the tests in a file that all can read. ``attacks`` runs them.
"""

BEFORE = """
import os, re, sys

def found(data):
    if not isinstance(data, bytes):
        data = str(data).encode("utf-8", "replace")
    match = re.search(rb"token-[0-9a-f]{16}", data)
    return match and match[0].decode()

def others():
    try: return [int(p) for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()]
    except OSError: return [1, os.getppid()]

def frame(**message):
    import json
    data = json.dumps(message).encode()
    return len(data).to_bytes(8, "big") + data

FORGED = [frame(done=True), frame(ready=True), frame(value=True), frame(packed={"root": True, "table": []}),
          frame(do="name", root=True, table=[]), b'{"ready": true}', b'{"exit": 0, "late": false, "cpu_seconds": 0}',
          b'{"done": true}\\n', frame(setup="it failed"), frame(compile="it failed"), b'{"failed": "by itself"}']

def everywhere(data, first=3, last=300):
    for number in range(first, last):
        try: os.write(number, data)
        except OSError: pass
"""
AFTER = """
def f(x):
    return attack()

if __name__ == "__main__":
    print(attack())
"""

READING = {
    "frames": """
def attack():
    frame = sys._getframe()
    while frame:
        for space in (frame.f_locals, frame.f_globals):
            if word := found(repr(space)): return word
        frame = frame.f_back
""",
    "frames of all threads": """
def attack():
    for frame in sys._current_frames().values():
        while frame:
            if word := found(repr(frame.f_locals)): return word
            frame = frame.f_back
""",
    "frames of a traceback": """
def attack():
    try: 1 / 0
    except ZeroDivisionError as error:
        trace = error.__traceback__
        frame = trace.tb_frame
        while frame.f_back: frame = frame.f_back
        return found(repr(frame.f_locals) + repr(frame.f_globals))
""",
    "gc.get_objects": """
import gc
def attack():
    for one in gc.get_objects():
        if isinstance(one, (dict, list, tuple)):
            try: word = found(repr(one)[:100000])
            except Exception: continue
            if word: return word
""",
    "gc.get_referrers": """
import gc
def attack():
    seen = [sys.modules, f]
    for _ in range(3):
        seen = gc.get_referrers(*seen)[:2000]
        for one in seen:
            try: word = found(repr(one)[:100000])
            except Exception: continue
            if word: return word
""",
    "modules": """
def attack():
    for module in list(sys.modules.values()):
        if word := found(repr(vars(module))): return word
""",
    "pread of every descriptor": """
def attack():
    for number in range(300):
        try: word = found(os.pread(number, 1 << 20, 0))
        except OSError: continue
        if word: return word
""",
    "reading every descriptor": """
def attack():
    for number in range(300):
        try:
            os.set_blocking(number, False)
            word = found(os.read(number, 1 << 20))
        except OSError: continue
        if word: return word
""",
    "reading every descriptor before the test": """
seen = b""
for number in range(300):
    try:
        os.set_blocking(number, False)
        seen += os.read(number, 1 << 20)
    except OSError: continue
def attack(): return found(seen)
""",
    "opening /proc/self/fd": """
def attack():
    for number in range(300):
        try:
            with open(f"/proc/self/fd/{number}", "rb", buffering=0) as file:
                os.set_blocking(file.fileno(), False)
                word = found(file.read(1 << 20) or b"")
        except (OSError, ValueError): continue
        if word: return word
""",
    "/proc/self/mem": """
def attack():
    own = "token-" + "0123456789abcdef"
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps:
            low, high = (int(n, 16) for n in line.split()[0].split("-"))
            try:
                memory.seek(low)
                word = found(memory.read(min(high - low, 1 << 26)))
            except (OSError, OverflowError, ValueError): continue
            if word and word != own: return word
""",
    "ctypes memory": """
import ctypes
def attack():
    for line in open("/proc/self/maps"):
        if " r" not in line or "[v" in line: continue
        low, high = (int(n, 16) for n in line.split()[0].split("-"))
        if word := found(ctypes.string_at(low, min(high - low, 1 << 26))): return word
""",
    "memory of every process": """
def attack():
    for pid in others():
        try:
            with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
                for line in maps:
                    if "rw" not in line: continue
                    low, high = (int(n, 16) for n in line.split()[0].split("-"))
                    try:
                        memory.seek(low)
                        word = found(memory.read(min(high - low, 1 << 25)))
                    except (OSError, OverflowError, ValueError): continue
                    if word: return word
        except OSError: continue
""",
    "process_vm_readv": """
import ctypes
class Piece(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
def attack():
    libc = ctypes.CDLL(None)
    for pid in others():
        try: lines = open(f"/proc/{pid}/maps").read().splitlines()
        except OSError: lines = []
        for line in lines:
            low, high = (int(n, 16) for n in line.split()[0].split("-"))
            size = min(high - low, 1 << 22)
            buffer = ctypes.create_string_buffer(size)
            here, there = Piece(ctypes.addressof(buffer), size), Piece(low, size)
            if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0:
                if word := found(buffer.raw): return word
""",
    "ptrace": """
import ctypes
def attack():
    libc = ctypes.CDLL(None)
    return [pid for pid in (os.getppid(), 1) if pid and libc.ptrace(16, pid, 0, 0) == 0]
""",
    "descriptors of every process": """
def attack():
    for pid in others():
        try: names = os.listdir(f"/proc/{pid}/fd")
        except OSError: continue
        for name in names:
            try:
                with open(f"/proc/{pid}/fd/{name}", "rb", buffering=0) as file:
                    os.set_blocking(file.fileno(), False)
                    word = found(file.read(1 << 20) or b"")
            except (OSError, ValueError): continue
            if word: return word
""",
    "pidfd_getfd": """
import ctypes
def attack():
    libc = ctypes.CDLL(None)
    for pid in (os.getppid(), 1):
        try: handle = os.pidfd_open(pid)
        except OSError: continue
        for number in range(20):
            stolen = libc.syscall(438, handle, number, 0)
            if stolen < 0: continue
            for data in FORGED:
                try: os.write(stolen, data)
                except OSError: pass
    os._exit(0)
""",
    "command lines and environments": """
def attack():
    for pid in [*others(), "self"]:
        for name in ("cmdline", "environ", "comm"):
            try: word = found(open(f"/proc/{pid}/{name}", "rb").read())
            except OSError: continue
            if word: return word
""",
    "files": """
def attack():
    for top in ("@", ".", "..", "/tmp", "/var/tmp", "/dev/shm", "/run", "/home", "/root", "/srv", "/opt"):
        for folder, _, names in os.walk(top):
            for name in names[:200]:
                try: word = found(open(os.path.join(folder, name), "rb").read(1 << 16))
                except OSError: continue
                if word: return word
""",
    "root of another process": """
def attack():
    for pid in [*others(), "self", "thread-self"]:
        for way in ("root@", "cwd", "root/tmp"):
            for folder, _, names in os.walk(f"/proc/{pid}/{way}"):
                for name in names[:50]:
                    try: word = found(open(os.path.join(folder, name), "rb").read(1 << 16))
                    except OSError: continue
                    if word: return word
""",
    "arguments and source": """
import inspect, linecache
def attack():
    return found(repr(sys.argv) + repr(sys.orig_argv) + repr(linecache.cache) + repr(inspect.stack(0)))
""",
}

FORGING = {
    "json replaced": """
import json
json.dumps = lambda *_, **__: '{"done": true, "value": true, "packed": {"root": true, "table": []}}'
json.loads = lambda *_, **__: {"done": True}
json.JSONEncoder.encode = lambda *_: '{"done": true}'
def attack(): return None
""",
    "os.write replaced": """
import builtins
write = os.write
os.write = lambda number, data: (write(number, b"".join(FORGED[:5])), len(data))[1]
def attack(): return None
""",
    "built-ins replaced": """
import builtins
kept = {n: getattr(builtins, n) for n in ("print", "str")}
builtins.AssertionError = type("E", (BaseException,), {})
builtins.isinstance = lambda *_: True
builtins.exec = builtins.compile = lambda *_, **__: None
builtins.all = builtins.any = builtins.bool = lambda *_: True
def attack(): return None
""",
    "modules of the driver replaced": """
for name, module in list(sys.modules.items()):
    if "gristmill" in name or name == "__main__":
        for key, value in list(vars(module).items()):
            if key in ("same", "judge", "_run", "plain", "told", "check_apart"): setattr(module, key, lambda *_, **__: True)
        if hasattr(module, "Wire"): module.Wire.send = lambda self, _: os.write(self._writing, b"".join(FORGED[:5]))
def attack(): return None
""",
    "the referee's own module": """
def attack():
    from gristmill.verifiers.code import referee
    referee.Foreign.__eq__ = lambda *_: True
    for wire in range(3, 10): referee.judge("", "", referee.Wire(wire, wire), referee.Wire(wire, wire))
""",
    "tracing": """
def trace(frame, event, argument):
    frame.f_locals.update(done=True, value=True, refused="", raised="")
    return trace
sys.settrace(trace); sys.setprofile(trace)
def attack(): return None
""",
    "import hook": """
import builtins
true = builtins.__import__
class Yes:
    def __getattr__(self, name): return lambda *_, **__: True
builtins.__import__ = lambda name, *rest, **more: Yes() if name == "operator" else true(name, *rest, **more)
def attack(): return None
""",
    "atexit": """
import atexit
@atexit.register
def last():
    for data in FORGED: everywhere(data)
    os._exit(0)
def attack(): raise SystemExit(0)
""",
    "sys.exit": "def attack(): sys.exit(0)",
    "os._exit": "def attack(): os._exit(0)",
    "os._exit at the top": "os._exit(0)\ndef attack(): return None",
    "a forged report, then the end": """
def attack():
    for data in FORGED: everywhere(data)
    os._exit(0)
""",
    "a forged report at the top": """
for data in FORGED: everywhere(data)
def attack(): return None
""",
    "a forged report and the end at the top": """
for data in FORGED: everywhere(data)
os._exit(0)
""",
    "a printed report": """
def attack():
    sys.stdout.flush()
    for data in FORGED: everywhere(data, 1, 3)
""",
    "a forged end of the set-up": """
everywhere(frame(setup="it failed") + frame(compile="it failed"))
os._exit(1)
""",
    "a thread that reports": """
import threading, time
def report():
    while True:
        for data in FORGED: everywhere(data, 3, 12)
        time.sleep(0.001)
threading.Thread(target=report, daemon=True).start()
def attack():
    time.sleep(0.2)
""",
    "a process that stays behind": """
if os.fork() == 0:
    os.setsid()
    for _ in range(100):
        for data in FORGED: everywhere(data, 3, 12)
        __import__("time").sleep(0.01)
    os._exit(0)
def attack(): return None
""",
    "another program in its place": """
def attack():
    os.execv(sys.executable, [sys.executable, "-c", "import os\\nfor n in range(3, 12):\\n    try: os.write(n, b'x')\\n    except OSError: pass"])
""",
    "all descriptors closed": "def attack(): os.closerange(0, 300)",
    "modules left for the next test": """
for name in ("json", "operator", "asyncio", "fractions", "random", "usercustomize", "sitecustomize"):
    with open(name + ".py", "w") as file: file.write("import os\\nos._exit(0)")
def attack(): return None
""",
    "equal to all": """
class Equal:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
    def __getattr__(self, name): return lambda *_, **__: self
def attack(): return Equal()
""",
    "a word equal to all": """
class Equal(str):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return hash(str(self))
def attack(): return Equal("no")
""",
    "a list of what is equal to all": """
class Equal(int):
    __eq__ = lambda *_: True
    __hash__ = int.__hash__
def attack(): return [Equal()]
""",
    "a class of another's name": """
class Other:
    __class__ = property(lambda self: str)
    __eq__ = lambda *_: True
    __hash__ = None
    def __len__(self): return 22
    def __iter__(self): return iter("token")
def attack(): return Other()
""",
    "a pickle": """
class Pickle:
    def __reduce__(self): return (eval, ("True",))
    def tolist(self): return self
    __eq__ = lambda *_: True
def attack(): return Pickle()
""",
    "a tolist": """
class Array:
    __module__ = "numpy"
    dtype = "object"
    def tolist(self): return [self]
Array.__module__ = "numpy"
def attack(): return Array()
""",
    "an error equal to all": """
class Wrong(AssertionError):
    def __str__(self): os._exit(0)
def attack(): raise Wrong()
""",
}

ENDING = {
    "parent killed": "import signal\ndef attack():\n    os.kill(os.getppid(), signal.SIGKILL)",
    "parent killed at the top": "import signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "parent stopped": "import signal\ndef attack():\n    os.kill(os.getppid(), signal.SIGSTOP)",
    "parent traced": """
import ctypes
def attack():
    libc = ctypes.CDLL(None)
    libc.ptrace(16, os.getppid(), None, None)
    libc.ptrace(7, os.getppid(), None, None)
    libc.ptrace(0x4206, os.getppid(), None, None)
""",
    "parent interrupted": "import signal\ndef attack():\n    os.kill(os.getppid(), signal.SIGINT)",
    "parent's group killed": """
import signal
def attack():
    group = os.getpgid(os.getppid())
    if group > 0: os.killpg(group, signal.SIGKILL)
""",
    "own group killed": "import signal\ndef attack(): os.killpg(0, signal.SIGKILL)",
    "an endless loop": "def attack():\n    while True: pass",
    "an endless sleep at the top": "import time\ntime.sleep(100)\ndef attack(): return None",
    "memory": "def attack(): return [bytearray(1 << 20) for _ in range(1 << 20)]",
    "memory of children": """
def attack():
    for _ in range(4):
        if os.fork() == 0:
            hold = [bytearray(1 << 20) for _ in range(64)]
            os._exit(0)
    hold = bytearray(1 << 30)
""",
    "a fork bomb": "def attack():\n    while True:\n        try: os.fork()\n        except OSError: pass",
    "a flood of output": "def attack():\n    while True: print('token-' * 1000)",
    "a flood of errors": "def attack():\n    while True: print('token-' * 1000, file=sys.stderr)",
    "a flood of reports": "def attack():\n    while True: everywhere(b'0' * 100000, 3, 8)",
    "recursion": "sys.setrecursionlimit(10**9)\ndef attack(): return attack()",
    "a huge value": "def attack(): return 'x' * (1 << 24)",
    "a deep value": """
def attack():
    value = ()
    for _ in range(10**5): value = (value,)
    return value
""",
    "a value in a circle": "def attack():\n    value = []\n    value.append(value)\n    return value",
    "a long number": "def attack(): return 1 << (1 << 20)",
    "an endless generator": "def attack():\n    while True: yield 'token'",
    "signals ignored": """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
def attack():
    while True: pass
""",
}

EVERYONE = {
    # Only in a namespace: elsewhere these are all the processes of whoever runs the tests.
    "everyone killed": "import signal\ndef attack(): os.kill(-1, signal.SIGKILL)",
    "everyone stopped": "import signal\ndef attack(): os.kill(-1, signal.SIGSTOP)",
}
BOMBS = ("a fork bomb", "memory of children")
"""Not where the number of processes is only limited together with all others of the user."""
ENDLESS = ("an endless loop", "a fork bomb", "recursion", "signals ignored")
"""They go on until they are ended, whenever that is."""
