"""The processes below a process, from /proc."""

from __future__ import annotations

from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """Process id and name of everything below ``pid`` that is not dead already."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent = rest.split()[:2]
        if state != "Z":
            children.setdefault(int(parent), []).append(int(folder.name))
            names[int(folder.name)] = command.strip() or name
    found, waiting = {}, [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found[child] = names[child]
            waiting.append(child)
    # multiprocessing's own helper lives as long as we do, and goes when we go.
    return {p: n for p, n in found.items() if "resource_tracker" not in n}


def alive(pid: int) -> bool:
    """Whether the process is there, and not dead already."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
