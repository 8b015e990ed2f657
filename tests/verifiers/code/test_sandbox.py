from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from paths import ROOT

from gristmill.core.errors import RecipeError
from gristmill.verifiers.code import sandbox as module
from gristmill.verifiers.code.place import Ended, Sandbox, SandboxLimits
from gristmill.verifiers.code.sandbox import choose
from gristmill.verifiers.code.trial import ProgramText, ProgramTrial
from gristmill.verifiers.code.walls import landlock_version

AS_ROOT = os.geteuid() == 0
BRIEF = SandboxLimits(wall_seconds=2.0, cpu_seconds=2.0, memory_mb=256, file_mb=4, processes=8, output_kb=64)


def open_sandbox(kind: str) -> Sandbox:
    if kind == "none":
        return choose("none", allow_root=True)
    try:
        return choose(kind)  # type: ignore[arg-type]
    except RecipeError as error:
        pytest.skip(error.message)


@pytest.fixture(params=["bubblewrap", "unshare", "none"])
def anywhere(request: pytest.FixtureRequest) -> Sandbox:
    return open_sandbox(request.param)


@pytest.fixture(params=["bubblewrap", "unshare"])
def closed(request: pytest.FixtureRequest) -> Sandbox:
    return open_sandbox(request.param)


def ran(sandbox: Sandbox, program: str, limits: SandboxLimits = BRIEF, stdin: str = "") -> Ended:
    with ProgramTrial(ProgramText(textwrap.dedent(program)), limits, sandbox) as trial:
        return trial.script(stdin)


def running(mark: str) -> list[str]:
    """The processes of this machine that have ``mark`` in their environment or command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "environ").read_bytes() + (path / "cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in text:
            found.append(path.name)
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


def test_a_program_reads_and_prints(anywhere: Sandbox) -> None:
    result = ran(anywhere, "import sys\nprint(input()[::-1]); print('é', file=sys.stderr)", stdin="añb\n")
    assert (result.exit, result.stdout, result.stderr) == (0, "bña\n", "é\n")
    assert ran(anywhere, "raise SystemExit(3)").exit == 3
    assert ran(anywhere, "import os; os.abort()").exit == -signal.SIGABRT


def test_an_endless_loop(anywhere: Sandbox) -> None:
    assert ran(anywhere, "while True: pass", BRIEF._replace(wall_seconds=0.3)).over == "wall"
    assert ran(anywhere, "while True: pass", BRIEF._replace(wall_seconds=90.0, cpu_seconds=1.0)).over == "cpu"


def test_sleep_costs_wall_time_only(anywhere: Sandbox) -> None:
    result = ran(anywhere, "import time; time.sleep(600)", BRIEF._replace(wall_seconds=0.5))
    assert (result.over, result.exit) == ("wall", -signal.SIGKILL)


def test_a_memory_hog(anywhere: Sandbox) -> None:
    result = ran(anywhere, "x = bytearray(1 << 30); print('had it')")
    assert (result.exit, result.stdout) == (1, "")
    assert "MemoryError" in result.stderr


def test_a_gigabyte_of_output_is_cut_at_its_limit(anywhere: Sandbox) -> None:
    program = "import os\nfor _ in range(1024): os.write(1, b'x' * (1 << 20))\nprint('done')"
    result = ran(anywhere, program, BRIEF._replace(wall_seconds=20.0, cpu_seconds=20.0))
    assert (result.over, len(result.stdout)) == ("output", 64 << 10)


def test_a_huge_file_and_many_files(anywhere: Sandbox) -> None:
    one = ran(anywhere, "open('f', 'wb').write(bytes(64 << 20)); print('written')")
    assert one.exit != 0 and one.stdout == ""
    if anywhere.kind == "none":
        return
    many = ran(
        anywhere,
        "for i in range(8): open(str(i), 'wb').write(bytes(1 << 20))\nprint('written')",
    )
    assert "No space left on device" in many.stderr and many.stdout == ""


def test_the_environment_and_descriptors_are_not_ours(
    anywhere: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hush")
    program = """
        import os
        print(dict(os.environ))
        for number in range(1000):
            try: os.fstat(number)
            except OSError: continue
            print(number, end=" ")
    """
    result = ran(anywhere, program)
    assert result.exit == 0
    assert "SOME_API_KEY" not in result.stdout and "hush" not in result.stdout
    assert result.stdout.splitlines()[1] == "0 1 2 "


def test_the_directory_is_empty_its_own_and_removed(anywhere: Sandbox) -> None:
    program = """
        import os
        print(os.getcwd(), os.listdir())
        os.makedirs("a/b"); open("a/b/c", "w").write("x"); os.symlink("/etc", "link")
        os.chmod("a/b", 0); os.chmod("a", 0)
        for _ in range(2000): os.mkdir("deep"); os.chdir("deep")
    """
    result = ran(anywhere, program, BRIEF._replace(wall_seconds=20.0, cpu_seconds=20.0))
    place, _, listed = result.stdout.strip().partition(" ")
    assert (result.exit, listed) == (0, "[]")
    assert not Path(place).exists()
    assert Path("/etc/passwd").exists()


def test_what_is_left_behind_in_a_session_of_its_own_is_killed(anywhere: Sandbox) -> None:
    mark = f"left-behind-{os.getpid()}-{time.monotonic_ns()}"
    program = f"""
        import os, subprocess, sys, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for stream in (0, 1, 2): os.close(stream)
                os.execvp(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", "{mark}"])
            os._exit(0)
        os.wait(); time.sleep(0.3); print("started")
    """
    result = ran(anywhere, program)
    assert result.stdout == "started\n"
    wait_until(lambda: not running(mark))


def test_what_was_left_running_at_the_limit_is_killed(anywhere: Sandbox) -> None:
    mark = f"over-time-{os.getpid()}-{time.monotonic_ns()}"
    program = f"""
        import subprocess, sys, time
        command = [sys.executable, "-c", "import time; time.sleep(600)", "{mark}"]
        subprocess.Popen(command, start_new_session=True); time.sleep(600)
    """
    assert ran(anywhere, program, BRIEF._replace(wall_seconds=1.0)).over == "wall"
    wait_until(lambda: not running(mark))


@pytest.mark.parametrize("program", ["while True: os.fork()", "while True:\n    if os.fork(): os.wait()"])
def test_a_fork_bomb(closed: Sandbox, program: str) -> None:
    forked = ran(
        closed,
        """
        import os, time
        made = 0
        try:
            while made < 40:
                if os.fork() == 0: time.sleep(20); os._exit(0)
                made += 1
        except BlockingIOError:
            print("refused", made)
        """,
    )
    assert forked.stdout.startswith("refused"), "not safe to go on"
    assert int(forked.stdout.split()[1]) <= BRIEF.processes + 2
    result = ran(closed, f"import os\n{program}")
    assert result.exit not in (0, None)


def test_threads_count_as_processes(closed: Sandbox) -> None:
    program = """
        import threading, time
        for i in range(40): threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
    """
    # A thread takes up to 72 MB of address space, which must not be what runs out.
    assert "can't start new thread" in ran(closed, program, BRIEF._replace(memory_mb=2048)).stderr


def test_no_network(closed: Sandbox) -> None:
    program = """
        import socket
        for address in (("127.0.0.1", {port}), ("192.0.2.1", 80)):
            try: socket.create_connection(address, timeout=1); print("connected")
            except OSError as error: print("refused")
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ran(closed, program.format(port=port)).stdout == "refused\nrefused\n"
        # The same program does connect where there is no sandbox: the test can fail.
        command = [sys.executable, "-c", textwrap.dedent(program.format(port=port))]
        assert "connected" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_nothing_outside_can_be_written(closed: Sandbox, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    target = tmp_path / "file"
    target.write_text("before")
    target.chmod(0o666)
    program = f"""
        import os
        for path in ("{target}", "{tmp_path}/new", "/tmp/new", "/dev/shm/new", "/etc/new", "/new"):
            try: open(path, "w").write("after"); print("wrote", path)
            except OSError: pass
    """
    assert ran(closed, program).stdout == ""
    assert target.read_text() == "before" and not (tmp_path / "new").exists()


def test_no_file_outside_is_seen(anywhere: Sandbox, tmp_path: Path) -> None:
    if anywhere.kind == "none" and not landlock_version():
        pytest.skip("files are kept apart by Landlock, which this kernel has not")
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("hush")
    program = f"""
        import os
        for path in ("{tmp_path}/file", "/etc/passwd", "/tmp", "/home", "/var", "/work"):
            try: print(path, os.listdir(path) if os.path.isdir(path) else open(path).read())
            except OSError: pass
    """
    assert "hush" not in (printed := ran(anywhere, program).stdout)
    assert "root:" not in printed and "file" not in printed


def test_no_process_outside_is_seen_or_met(closed: Sandbox) -> None:
    program = """
        import os, signal
        print([p for p in os.listdir("/proc") if p.isdigit() and int(p) > 50])
        for pid in (1, os.getppid()):
            try: os.kill(pid, signal.SIGTERM)
            except PermissionError: pass
        print("still here")
    """
    assert ran(closed, program).stdout == "[]\nstill here\n"


def test_no_privileges_to_be_had(closed: Sandbox) -> None:
    program = """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.mount(b"tmpfs", os.getcwd().encode(), b"tmpfs", 0, None))
        print(libc.unshare(0x10000000))
        print([l.split()[1] for l in open("/proc/self/status") if l.startswith(("CapPrm", "CapEff"))])
        print([l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")])
    """
    assert ran(closed, program).stdout.splitlines() == [
        "-1",
        "-1",
        "['0000000000000000', '0000000000000000']",
        "['1']",
    ]


@pytest.mark.skipif(not AS_ROOT, reason="only root can be kept from root's files")
def test_roots_files_are_closed_to_a_program_that_root_runs(closed: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush")
    secret.chmod(0o600)
    tmp_path.chmod(0o755)
    result = ran(closed, f"import os; print(os.listdir('/root')); print(open('{secret}').read())")
    assert "hush" not in result.stdout
    assert "PermissionError" in result.stderr or "FileNotFoundError" in result.stderr


def test_the_launcher_ends_when_its_caller_is_killed(anywhere: Sandbox, tmp_path: Path) -> None:
    mark = f"orphan-{os.getpid()}-{time.monotonic_ns()}"
    command = f"[sys.executable, '-c', 'import time; time.sleep(60)', '{mark}']"
    program = f"import os, sys; os.execvp(sys.executable, {command})"
    script = tmp_path / "caller.py"
    script.write_text(
        "from gristmill.verifiers.code.sandbox import *\n"
        f"sandbox = choose({anywhere.kind!r}, allow_root=True)\n"
        f"with ProgramTrial(ProgramText({program!r}), SandboxLimits(wall_seconds=60), sandbox) as trial:\n"
        "    trial.script('')\n"
    )
    with subprocess.Popen([sys.executable, script], cwd=ROOT) as caller:
        wait_until(lambda: any(p != str(caller.pid) for p in running(mark)) and _executed(mark))
        caller.kill()
    wait_until(lambda: not running(mark))


def _executed(mark: str) -> bool:
    """Whether the program itself runs: as a command of its own, not in the text of anything else."""
    for pid in running(mark):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in words:
            return True
    return False


def test_a_sandbox_that_is_not_there() -> None:
    problem = r"'bubblewrap': there is no bwrap"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        module._problem.cache_clear()
        with pytest.raises(RecipeError, match=rf"no sandbox that was asked for works here \({problem}\)"):
            choose("bubblewrap")
        # Nothing falls back to none, whoever this is and whatever Landlock could do: it must be said.
        for user in (0, 1000):
            patch.setattr(os, "geteuid", lambda user=user: user)
            for strict in (False, True):
                with pytest.raises(RecipeError, match=rf"\({problem}; 'unshare': .*set sandbox: none"):
                    choose("auto", allow_root=True, strict=strict)
        patch.undo()
        patch.setattr(module, "landlock_version", lambda: 0)
        with pytest.raises(RecipeError, match="none with strict: true needs Landlock"):
            choose("none", allow_root=True, strict=True)
        assert choose("none", allow_root=True).kind == "none"
    module._problem.cache_clear()


def test_the_best_that_works_is_taken() -> None:
    working = [kind for kind in module.SANDBOXES if not module._problem(kind, AS_ROOT)]
    if working:
        assert choose("auto").kind == working[0]
    if AS_ROOT:
        with pytest.raises(RecipeError, match="not run by root"):
            choose("none")
