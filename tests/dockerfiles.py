"""Builds the Dockerfile without Docker: each instruction runs in a copy of this machine's root folder.

The copy is an overlay in memory, in which commands run by chroot; nothing of it is left when `built` ends. A fresh
environment of Python takes the place of the base image.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from conftest import REPOSITORY

DOCKERFILE = REPOSITORY / "Dockerfile"
BASE = "/usr/local/base"  # in the copy: the environment of Python
PATH = f"{BASE}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OF_THE_MACHINE = ("PIP_", "SSL_")  # how it reaches the package index
LAYERS = """
mount -t tmpfs none "$0" && mkdir "$0/upper" "$0/work" "$0/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" "$0/root"
mount --bind /dev "$0/root/dev"
for shared in tmp dev/shm; do mount -t tmpfs none "$0/root/$shared" && chmod 1777 "$0/root/$shared"; done
chmod a+x "$0/root/root" && echo ready && exec sleep infinity
"""
# Mounts the processes that it sees, becomes the user in the copy, and then the command.
ENTER = """
mount -t proc proc "$0/proc" && cd /
exec chroot --userspec="$1" "$0" sh -c 'cd "$0" && exec "$@"' "${@:2}"
"""


def instructions(text: str) -> list[tuple[str, str]]:
    """(name, arguments) of each instruction of a Dockerfile, in order."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def can_build() -> bool:
    """Whether this process may mount overlays, as root may outside of most containers."""
    layers = "lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w"
    test = f"mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w && mount -t overlay overlay -o {layers} /mnt"
    command = ["unshare", "--mount", "sh", "-c", test]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@dataclass
class Image:
    """What instructions made.

    holder: the process in whose mount namespace the copy is.
    root: the copy, as that process sees it.
    """

    holder: subprocess.Popen
    root: Path
    arguments: dict[str, str]
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    user: str = "root"
    folder: str = "/"
    health: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)

    def inside(self, *command: str, user: str | None = None, own_processes: bool = False) -> list[str]:
        """The command line that runs a command in the image; with `own_processes`, it is number 1 of its own."""
        user = user or self.user
        enter = ["nsenter", "--target", str(self.holder.pid), "--mount"]
        apart = ["unshare", "--mount", *(["--pid", "--fork", "--kill-child"] if own_processes else [])]
        return [*enter, *apart, "bash", "-c", ENTER, str(self.root), user, self.folder, *command]

    def run(self, *command: str, user: str | None = None, **environment: str) -> subprocess.CompletedProcess:
        environment = self.environment | environment
        done = subprocess.run(
            self.inside(*command, user=user), env=environment, capture_output=True, text=True, timeout=1200
        )
        return done

    def copy(self, source: Path, to: str) -> None:
        """Copy a file, or the content of a folder, of this machine into a folder of the image, as root's."""
        what = [str(source), "."] if source.is_dir() else [str(source.parent), source.name]
        packed = subprocess.run(["tar", "--create", "--directory", *what], capture_output=True, check=True).stdout
        unpack = 'mkdir -p "$0" && tar --extract --no-same-owner --directory "$0"'
        subprocess.run(self.inside("sh", "-c", unpack, to, user="root"), env=self.environment, input=packed, check=True)

    # ── instructions ────────────────────────────────────────────────────────────────────────────────────────────────

    def build(self, text: str) -> None:
        for name, rest in instructions(text):
            getattr(self, f"do_{name.lower()}")(rest)

    def do_arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        self.arguments.setdefault(name, shlex.split(default)[0] if default else "")

    def do_from(self, rest: str) -> None:
        """The arguments before it are for it alone."""
        assert self.filled(rest).startswith("python:")
        done = self.run(sys._base_executable, "-m", "venv", BASE)
        assert done.returncode == 0, done.stderr

    def do_run(self, rest: str) -> None:
        registry = {name: value for name, value in os.environ.items() if name.startswith(OF_THE_MACHINE)}
        done = self.run("sh", "-c", rest, **registry | self.arguments)
        assert done.returncode == 0, f"{rest}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def do_copy(self, rest: str) -> None:
        flags = [word for word in rest.split() if word.startswith("--")]
        *sources, to = (self.filled(word) for word in rest.split() if not word.startswith("--"))
        place = os.path.normpath(os.path.join(self.folder, to))
        for source in (REPOSITORY / source for source in sources):
            self.copy(source, place)
        for owner in (flag.removeprefix("--chown=") for flag in flags):
            assert self.run("chown", "--recursive", f"{owner}:", place, user="root").returncode == 0

    def do_env(self, rest: str) -> None:
        self.environment |= dict(word.split("=", 1) for word in shlex.split(self.filled(rest)))

    def do_user(self, rest: str) -> None:
        self.user = rest

    def do_workdir(self, rest: str) -> None:
        self.folder = "/"
        assert self.run("mkdir", "--parents", rest, user="root").returncode == 0
        self.folder = rest

    def do_expose(self, rest: str) -> None:
        self.port = int(rest)

    def do_healthcheck(self, rest: str) -> None:
        self.health = json.loads(rest.partition("CMD")[2])

    def do_entrypoint(self, rest: str) -> None:
        self.entrypoint = json.loads(rest)

    def filled(self, text: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda name: self.arguments[name[1]], text)

    # ── containers ──────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def started(self, *options: str, log: Path, **environment: str) -> Iterator["Container"]:
        """A container of the image, as `docker run` starts it."""
        command = self.inside(*self.entrypoint, *options, own_processes=True)
        with open(log, "w") as file:
            process = subprocess.Popen(command, env=self.environment | environment, stdout=file, stderr=file)
            container = Container(self, process, log)
            try:
                yield container
            finally:
                container.kill()


@dataclass
class Container:
    image: Image
    process: subprocess.Popen
    log: Path

    def is_healthy(self) -> bool:
        return self.image.run(*self.image.health).returncode == 0

    def wait_until_healthy(self, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while not self.is_healthy():
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()
            time.sleep(0.5)

    @property
    def server(self) -> int:
        """The process number 1 of the container, by its number on this machine."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        (child,) = children
        return int(child)

    def kill(self) -> None:
        if self.process.poll() is None:
            with suppress(ValueError, ProcessLookupError):  # it has ended meanwhile
                os.kill(self.server, signal.SIGKILL)
            self.process.kill()
        self.process.wait()


@contextmanager
def built(folder: Path, **arguments: str) -> Iterator[Image]:
    """The image of the Dockerfile; `folder` is an empty one to mount it at."""
    holder = subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", LAYERS, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "ready\n"
        yield Image(holder, folder / "root", dict(arguments))
    finally:
        holder.kill()
        holder.wait()
