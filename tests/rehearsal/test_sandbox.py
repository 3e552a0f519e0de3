"""What a held script does stays in its process: real processes, real files, what the kernel here allows."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import multiprocessing
import os
import platform
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lrlint.rehearsal.sandbox import HeldFile, Hold, hold, landlock, mounts, namespaces, scratch, syscalls
from lrlint.rehearsal.sandbox.namespaces import Spaces

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
Fork = multiprocessing.get_context("fork")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files, that is also the working directory; the home folder lies beside it."""
    folder, home = tmp_path / "project", tmp_path / "home"
    for place in (folder / "old" / "deep", home):
        place.mkdir(parents=True)
    (folder / "keep.txt").write_text("keep")
    (folder / "gone.txt").write_text("gone")
    (folder / "data.bin").write_bytes(b"12345678")
    (folder / "old" / "deep" / "file").write_text("x")
    (home / ".netrc").write_text("secret")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(home))
    return folder


def in_child(work: Callable[[], Any], seconds: float = 30.0) -> tuple[Any, int | None]:
    """What ``work`` returns (or the error it raises, as text) in a process of its own, and how that ended."""
    receiver, sender = Fork.Pipe(duplex=False)

    def run() -> None:
        try:
            sender.send(work())
        except BaseException as error:
            sender.send(f"{type(error).__name__}: {error}")
        os._exit(0)

    process = Fork.Process(target=run)
    process.start()
    sender.close()
    try:
        answer = receiver.recv() if receiver.poll(seconds) else None
    except EOFError:
        answer = None
    deadline = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    return answer, process.exitcode


def held(root: Path, **options: Any) -> Hold:
    """A hold of all files; the test is skipped where there are no namespaces."""
    found = hold(root, **options)
    if found.mode != "held":
        raise Skipped(found.reason)
    return found


class Skipped(Exception):
    """Nothing to test here."""


def result(work: Callable[[], Any]) -> Any:
    answer, code = in_child(work)
    if isinstance(answer, str) and answer.startswith("Skipped: "):
        pytest.skip(answer)
    assert code == 0, answer
    return answer


def tree(*folders: Path) -> str:
    """A digest of all that is below: names, kinds, modes, times, contents."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            state = path.lstat()
            digest.update(repr((str(path), state.st_mode, state.st_mtime_ns, state.st_size)).encode())
            if path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(params=["as root", "in a user namespace", "on a disk"])
def rights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By whose rights, and where what is written is kept (on a disk, as before Linux 6.6)."""
    if request.param == "as root" and not namespaces._may_mount():
        pytest.skip("not root")
    if request.param == "in a user namespace":
        monkeypatch.setattr(namespaces, "_may_mount", lambda: False)
    if request.param == "on a disk":
        monkeypatch.setattr(namespaces, "candidates", lambda cut: iter([Spaces(True, True, cut, on_disk=True)]))
    return str(request.param)


def write_everywhere(mark: str) -> None:
    """Everything that a script does with files, by Python, native code and another program."""
    os.makedirs("runs/a")
    Path("runs/a/events").write_text("e")
    with open("keep.txt", "a") as file:
        file.write(" on")
    os.remove("gone.txt")
    shutil.rmtree("old")
    os.makedirs("old/new")
    assert os.listdir("old") == ["new"]
    with open("data.bin", "r+b") as file, mmap.mmap(file.fileno(), 8) as memory_map:
        memory_map[:] = b"ABCDEFGH"
    with sqlite3.connect("log.db") as database:
        database.execute("create table losses (value real)")
    subprocess.run(f"echo x > shell.txt; mkdir -p made; echo y > /tmp/{mark}-shell", shell=True, check=True)
    for folder in ("/tmp", "/dev/shm", os.path.expanduser("~"), tempfile.gettempdir()):
        (Path(folder) / mark).write_text("z")
    Path("first").write_text("1")
    os.rename("first", "second")
    os.replace("second", f"/tmp/{mark}-moved")
    os.chmod("keep.txt", 0o600)
    os.symlink("keep.txt", "link")


def test_nothing_that_is_written_reaches_the_disk(project: Path, rights: str) -> None:
    mark = f"held-{uuid.uuid4().hex}"

    def work() -> tuple[str, str, int]:
        held(project)
        write_everywhere(mark)
        return Path("keep.txt").read_text(), Path("data.bin").read_text(), sqlite3.connect("log.db").total_changes

    before = tree(project.parent)
    assert result(work)[:2] == ("keep on", "ABCDEFGH")
    assert tree(project.parent) == before
    assert not [path for folder in ("/tmp", "/dev/shm") for path in Path(folder).glob(f"{mark}*")]
    assert not [path for folder in ("/tmp", "/var/tmp") for path in Path(folder).glob("rehearsal-*")]


def test_held_files_are_named_relative_to_the_root(project: Path, rights: str) -> None:
    def work() -> list[HeldFile]:
        found = held(project)
        os.makedirs("runs")
        Path("runs/a.txt").write_text("abc")
        Path("keep.txt").write_text("longer than before")
        os.remove("gone.txt")
        shutil.rmtree("old/deep")
        open("data.bin", "r+b").close()  # opened for writing, never written to
        Path("__pycache__").mkdir()
        Path("__pycache__/m.pyc").write_text("compiled")
        (project.parent / "outside.txt").write_text("12")
        return found.files

    assert result(work) == [
        HeldFile("gone.txt", removed=True),
        HeldFile("keep.txt", size=18),
        HeldFile("old/deep/", removed=True),
        HeldFile("runs/a.txt", size=3),
        HeldFile(str(project.parent / "outside.txt"), size=2),
    ]


def test_a_folder_made_anew_counts_what_it_hides_as_removed(project: Path, rights: str) -> None:
    def work() -> list[HeldFile]:
        found = held(project)
        shutil.rmtree("old")
        os.mkdir("old")
        return found.files

    assert result(work) == [HeldFile("old/deep/", removed=True)]


def test_a_script_reads_its_own_checkpoint_back(project: Path) -> None:
    import torch

    def work() -> list[float]:
        held(project)
        torch.save({"weight": torch.ones(2)}, "checkpoint.pt")
        os.replace("checkpoint.pt", "last.pt")
        return torch.load("last.pt")["weight"].tolist()  # type: ignore[no-any-return]

    assert result(work) == [1.0, 1.0]
    assert not (project / "last.pt").exists()


def test_a_folder_with_mounts_below_is_covered_entry_by_entry(tmp_path: Path) -> None:
    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "code").mkdir()
    (tmp_path / "notes.txt").write_text("n")
    (tmp_path / "link").symlink_to("code")
    table = {
        "/": mounts.Mount("/", "ext4", False),
        str(tmp_path): mounts.Mount(str(tmp_path), "ext4", False),
        str(tmp_path / "data"): mounts.Mount(str(tmp_path / "data"), "nfs", False),
        str(tmp_path / "data" / "inner"): mounts.Mount(str(tmp_path / "data" / "inner"), "iso9660", True),
    }
    pieces = [(p.action, p.path) for p in mounts._cover(str(tmp_path), table, locked=True)]
    assert ("folder", str(tmp_path)) == pieces[0]
    assert ("overlay", str(tmp_path / "code")) in pieces
    assert ("link", str(tmp_path / "link")) in pieces
    assert ("copy", str(tmp_path / "notes.txt")) in pieces
    assert ("folder", str(tmp_path / "data")) in pieces
    assert ("bind", str(tmp_path / "data" / "inner")) in pieces
    unlocked = [(p.action, p.path) for p in mounts._cover(str(tmp_path), table, locked=False)]
    assert unlocked == [
        ("overlay", str(tmp_path)),
        ("overlay", str(tmp_path / "data")),
        ("bind", str(tmp_path / "data" / "inner")),
    ]


def test_mounts_are_read_with_their_escapes_and_the_one_on_top_wins() -> None:
    found = mounts.mounted(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "30 22 0:26 / /my\\040data ro,nosuid - nfs4 host:/x rw\n"
        "31 22 0:27 / /tmp rw - ext4 /dev/sdb rw\n"
        "32 31 0:28 / /tmp rw,nodev - tmpfs tmpfs ro\n"
    )
    assert list(found) == ["/", "/my data", "/tmp"]
    assert found["/my data"] == mounts.Mount("/my data", "nfs4", True, syscalls.MS_NOSUID)
    assert found["/tmp"] == mounts.Mount("/tmp", "tmpfs", True, syscalls.MS_NODEV)


def test_what_a_folder_without_an_overlay_holds_is_read_back(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a user namespace, a host's mount inside the project: its folders are covered one by one, its files copied."""
    if not namespaces._may_mount():
        pytest.skip("only root can make a mount")

    def work() -> list[HeldFile]:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount("tmpfs", str(project / "old" / "deep"), "tmpfs")
        namespaces._may_mount = lambda: False
        found = held(project)
        Path("keep.txt").write_text("changed")
        Path("new.txt").write_text("n")
        os.remove("gone.txt")
        Path("old/new.txt").write_text("inside")
        Path("old/deep/new.txt").write_text("on the mount")
        return found.files

    before = tree(project)
    assert result(work) == [
        HeldFile("gone.txt", removed=True),
        HeldFile("keep.txt", size=7),
        HeldFile("new.txt", size=1),
        HeldFile("old/deep/new.txt", size=12),
        HeldFile("old/new.txt", size=6),
    ]
    assert tree(project) == before


def test_a_working_directory_that_was_removed_is_no_hindrance(project: Path) -> None:
    def work() -> list[HeldFile]:
        os.mkdir("here")
        os.chdir("here")
        os.rmdir("../here")
        found = held(project)
        (project / "new.txt").write_text("n")
        return found.files

    assert result(work) == [HeldFile("new.txt", size=1)]


def test_what_is_written_is_bounded_and_the_bound_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "memory_bytes", lambda: 4 << 20)

    def work() -> tuple[bool, int | None, bool]:
        found = held(project)
        before = found.full
        try:
            Path("large").write_bytes(bytes(8 << 20))
        except OSError as error:
            return before, error.errno, found.full
        return before, None, found.full

    assert result(work) == (False, errno.ENOSPC, True)


# -- processes


def start_stragglers(mark: str) -> None:
    """A child in a session of its own, a daemon by double fork, and one that ignores what is polite."""
    sleep = ["sh", "-c", f": {mark}; sleep 600"]
    subprocess.Popen(sleep)
    subprocess.Popen(sleep, start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.execvp("sh", sleep)
        os._exit(0)
    until = time.monotonic() + 5
    while len(running(mark)) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(running(mark)) >= 3


def running(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in line:
                found.append(entry.name)
    return found


def no_pid_namespace(cut_network: bool) -> Iterator[Spaces]:
    yield Spaces(user=not namespaces._may_mount(), processes=False, network=False)


@pytest.mark.parametrize("way", ["held", "held without a PID namespace", "first step"])
@pytest.mark.parametrize("end", ["returns", "os._exit", "raises", "killed", "terminated from outside"])
def test_nothing_is_left_running(project: Path, monkeypatch: pytest.MonkeyPatch, way: str, end: str) -> None:
    if way == "held without a PID namespace":
        monkeypatch.setattr(namespaces, "candidates", no_pid_namespace)
    mark = f"straggler-{uuid.uuid4().hex}"
    receiver, sender = Fork.Pipe(duplex=False)

    def run() -> None:
        found = hold(project, mode="first step" if way == "first step" else "auto")
        start_stragglers(mark)
        sender.send(found.mode)
        try:
            if end == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if end == "terminated from outside":
                time.sleep(60)
            if end == "raises":
                raise RuntimeError("as scripts do")
        except BaseException:
            pass
        os._exit(7 if end == "os._exit" else 0)

    process = Fork.Process(target=run)
    process.start()
    sender.close()
    assert receiver.poll(30)
    mode = receiver.recv()
    if way != "first step" and mode != "held":
        pytest.skip("no namespaces here")
    if end == "terminated from outside":
        process.terminate()
    until = time.monotonic() + 10
    while (process.is_alive() or running(mark)) and time.monotonic() < until:
        time.sleep(0.01)
    assert running(mark) == []
    expected = {"os._exit": 7, "killed": -signal.SIGKILL, "terminated from outside": -signal.SIGTERM}
    assert process.exitcode == expected.get(end, 0)


# -- the network


def test_the_network_can_be_cut_and_loopback_stays(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = outside.getsockname()[1]

        def work() -> tuple[bool, str, bool]:
            found = held(project, network=False)
            if found.network:
                raise Skipped("no network namespace")
            with socket.create_server(("127.0.0.1", 0)) as inside:
                local = socket.create_connection(inside.getsockname(), 5)
                local.close()
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
            except OSError as error:
                return found.network, errno.errorcode[error.errno or 0], os.environ["HF_HUB_OFFLINE"] == "1"
            return found.network, "reached", False

        assert result(work) == (False, "ECONNREFUSED", True)


# -- where there are no namespaces


def refuse_system_calls(*numbers: int) -> None:
    """A seccomp filter that answers EPERM, as those of containers do."""
    program = [struct.pack("HBBI", 0x20, 0, 0, 0)]
    for left, number in enumerate(numbers):
        program.append(struct.pack("HBBI", 0x15, len(numbers) - left, 0, number))
    program += [struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000), struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | errno.EPERM)]
    code = ctypes.create_string_buffer(b"".join(program))
    pointer = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)
    assert libc.prctl(22, 2, ctypes.create_string_buffer(pointer), 0, 0) == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of its system calls")
def test_where_a_seccomp_filter_refuses_namespaces_it_is_said(project: Path) -> None:
    def work() -> tuple[str, str]:
        refuse_system_calls(272)  # unshare
        found = hold(project)
        return found.mode, found.reason

    assert result(work) == ("first step", "a seccomp filter, as containers have it, refuses namespaces")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor restricts"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "switched off"),
        ("/proc/sys/user/max_user_namespaces", "0", "switched off"),
    ],
)
def test_the_reason_names_the_setting(
    project: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, words: str
) -> None:
    def refuse(flags: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(syscalls, "unshare", refuse)
    monkeypatch.setattr(namespaces, "_setting", lambda path: value if path == setting else "")

    def work() -> tuple[str, str]:
        found = hold(project)
        return found.mode, found.reason

    mode, reason = result(work)
    assert mode == "first step"
    assert words in reason
    assert Path(setting).name in reason


def test_without_overlays_nothing_is_called_held(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = syscalls.mount

    def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
        if kind == "overlay":
            raise OSError(errno.ENODEV, "No such device")
        original(source, target, kind, flags, data)

    monkeypatch.setattr(syscalls, "mount", mount)

    def work() -> tuple[str, str]:
        found = hold(project)
        return found.mode, found.reason

    mode, reason = result(work)
    assert mode == "first step"
    assert reason


def test_a_process_with_threads_cannot_be_held(project: Path) -> None:
    def work() -> tuple[str, str]:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        found = hold(project)
        return found.mode, found.reason

    mode, reason = result(work)
    assert mode == "first step"
    assert "2 threads" in reason


def test_an_unknown_mode_is_refused(project: Path) -> None:
    with pytest.raises(ValueError, match="mode must be"):
        hold(project, mode="hold")


# -- redirected


def test_redirected_python_writes_are_seen_and_do_not_reach_the_disk(project: Path) -> None:
    import torch

    mark = f"redirected-{uuid.uuid4().hex}"

    def work() -> tuple[str, list[HeldFile], list[Any]]:
        found = hold(project, mode="redirected")
        os.makedirs("runs/a")
        Path("runs/a/events").write_text("e")
        with open("keep.txt", "a") as file:
            file.write(" on")
        os.remove("gone.txt")
        shutil.rmtree("old")
        os.mkdir("old")
        torch.save({"step": torch.ones(1)}, "last.pt")
        os.replace("last.pt", "best.pt")
        with sqlite3.connect("log.db") as database:
            database.execute("create table losses (value real)")
        (Path("/tmp") / mark).write_text("z")
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "x").write_text("x")
        os.chdir("runs")
        Path("b").write_text("b")
        seen = [
            Path("../keep.txt").read_text(),
            torch.load("../best.pt")["step"].item(),
            sorted(os.listdir("..")),
            os.listdir("../old"),
            sorted(entry.name for entry in os.scandir(project)),
            os.path.exists("../gone.txt"),
            os.getcwd(),
            sorted(path.name for path in project.glob("**/*.txt")),
        ]
        return found.mode, found.files, seen

    before = tree(project.parent)
    mode, files, seen = result(work)
    names = ["best.pt", "data.bin", "keep.txt", "log.db", "old", "runs"]
    assert mode == "redirected"
    assert seen == ["keep on", 1.0, names, [], names, False, str(project / "runs"), ["keep.txt"]]
    assert [(file.path, file.removed) for file in files] == [
        ("best.pt", False),
        ("gone.txt", True),
        ("keep.txt", False),
        ("log.db", False),
        ("old/deep/", True),
        ("old/deep/file", True),
        ("runs/a/events", False),
        ("runs/b", False),
        (f"/tmp/{mark}", False),
    ]
    assert tree(project.parent) == before
    assert not (Path("/tmp") / mark).exists()
    assert not list(Path(tempfile.gettempdir()).glob("rehearsal-*"))


def test_what_cannot_be_redirected_is_refused_where_landlock_can(project: Path) -> None:
    if not landlock.version():
        pytest.skip("no Landlock")

    def work() -> tuple[int, list[str], int]:
        found = hold(project, mode="redirected")
        shell = subprocess.run("echo x > leak.txt", shell=True, stderr=subprocess.DEVNULL).returncode
        quiet = subprocess.run("echo x > /dev/null", shell=True).returncode
        return shell, found.notes, quiet

    code, notes, quiet = result(work)
    assert code != 0
    assert quiet == 0
    assert notes == ["writes of native code and of other programs are refused"]
    assert not (project / "leak.txt").exists()


# -- trackers


def test_trackers_are_switched_off_also_where_the_code_asks_for_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "wandb.py").write_text("def init(project=None, mode=None): return mode\n")
    (project / "mlflow.py").write_text("uris = []\ndef set_tracking_uri(uri): uris.append(uri)\n")
    monkeypatch.syspath_prepend(str(project))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking.example.org")

    def work() -> tuple[Any, ...]:
        held(project)
        import mlflow
        import wandb

        mlflow.set_tracking_uri("https://tracking.example.org")
        mlflow.set_tracking_uri("file:./mlruns")
        modes = os.environ["WANDB_MODE"], os.environ["CLEARML_OFFLINE_MODE"], os.environ.get("MLFLOW_TRACKING_URI")
        return wandb.init("p", mode="online"), mlflow.uris, modes

    assert result(work) == ("disabled", ["file:./mlruns"], ("disabled", "1", None))


def test_uploads_to_the_hub_do_nothing(project: Path) -> None:
    pytest.importorskip("huggingface_hub")

    def work() -> tuple[Any, ...]:
        hold(project, mode="first step")
        from huggingface_hub import HfApi, create_repo, upload_folder

        repository = create_repo("someone/model", exist_ok=True)
        folder = upload_folder(repo_id="someone/model", folder_path=".")
        file = HfApi().upload_file(path_or_fileobj=b"", path_in_repo="a", repo_id="someone/model")
        return repository.repo_id, folder, file

    assert result(work) == ("someone/model", None, None)
