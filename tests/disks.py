"""Disks with layers, made by QEMU itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path


def overlay(file: Path, base: str, *, form: str = "raw", size: int = 1 << 20, **options: object) -> Path:
    """Make a qcow2 file over ``base``, as it shall be named in it; ``options``: more of QMP's ``blockdev-create``."""
    file.touch()
    command = ["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=f,filename={file}"]
    daemon = subprocess.Popen(
        [*command, "--chardev", "stdio,id=c", "--monitor", "chardev=c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert daemon.stdin
    assert daemon.stdout

    def say(execute: str, **arguments: object) -> None:
        assert daemon.stdin
        daemon.stdin.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
        daemon.stdin.flush()

    try:
        say("qmp_capabilities")
        told = {"driver": "qcow2", "file": "f", "size": size, "backing-file": base, "backing-fmt": form, **options}
        say("blockdev-create", **{"job-id": "made", "options": told})
        for line in daemon.stdout:
            event = json.loads(line)
            assert "error" not in event, line
            if event.get("data", {}).get("status") == "concluded":
                break
        say("quit")
        daemon.communicate(timeout=20)
    finally:
        daemon.kill()
        daemon.wait()
    return file
