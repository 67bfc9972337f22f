"""Files appear whole or not at all, several together; nothing that was planted is used."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from onnxsemi import OutputError, RunError
from onnxsemi._atomic_file import (
    check_writable,
    open_own,
    sweep,
    sweep_folder,
    temporary_folder,
    whole_file,
    whole_files,
)
from onnxsemi._run.folder import MadeOf, open_run
from onnxsemi._run.journal import Journal, Question
from onnxsemi._run.store import NO_RUN, read, write, write_arrays

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links, fifos and modes are POSIX")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put(text: str, *paths: Path) -> None:
    with whole_files(*paths) as scratches:
        for scratch in scratches.values():
            scratch.write_text(text)


@pytest.fixture
def pair(tmp_path):
    paths = tmp_path / "model", tmp_path / "plan"
    put("old", *paths)
    return paths


def test_together(pair, tmp_path):
    put("new", *pair)
    assert [path.read_text() for path in pair] == ["new", "new"]
    assert names(tmp_path) == ["model", "plan"]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_neither_if_one_cannot(pair, tmp_path, monkeypatch, call, failing, there):
    if not there:
        for path in pair:
            path.unlink()
    before = {name: (tmp_path / name).read_text() for name in names(tmp_path)}
    owner = os if call == "fsync" else Path
    real, calls = getattr(owner, call), []

    def fails(*arguments):
        calls.append(arguments)
        if len(calls) == failing + 1:
            raise OSError(28, "No space left on device", str(arguments[0]))
        return real(*arguments)

    monkeypatch.setattr(owner, call, fails)
    with pytest.raises(OutputError, match="cannot be written: No space"):
        put("new", *pair)
    monkeypatch.undo()
    assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == before


def test_without_links_the_first_may_be_new(pair, monkeypatch):
    def none(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    put("new", *pair)
    assert [path.read_text() for path in pair] == ["new", "new"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_mode_bits_are_kept(tmp_path, mode):
    path = tmp_path / "out"
    path.write_text("old")
    path.chmod(mode)
    put("new", path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_is_as_readable_as_any(tmp_path):
    (tmp_path / "plain").write_text("")
    put("new", tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_folders_are_synced(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def noted(descriptor):
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    put("new", tmp_path / "out")
    assert synced == [False, True]
    journal = Journal(tmp_path / "journal.jsonl")
    synced.clear()
    journal.ask(Asked(1), int, lambda: 1)
    journal.ask(Asked(2), int, lambda: 1)
    assert synced == [False, True, False]


class Asked(Question, frozen=True):
    number: int


def test_scratch_names_are_unique(tmp_path):
    with whole_file(tmp_path / "out") as one, whole_file(tmp_path / "out") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "out").read_text() == "one"


def test_what_another_process_writes_is_not_swept_whatever_its_number(tmp_path):
    """A process in another container may have a number that is free here."""
    code = """
        import sys
        from pathlib import Path
        from onnxsemi._atomic_file import whole_file
        with whole_file(Path(sys.argv[1])) as scratch:
            scratch.write_text("whole")
            print("ready", flush=True)
            sys.stdin.readline()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as by:
        assert by.stdout.readline() == "ready\n"
        sweep(tmp_path / "out")
        check_writable(tmp_path / "out")
        assert len(names(tmp_path)) == 1
        by.communicate("\n")
    assert (tmp_path / "out").read_text() == "whole"
    assert names(tmp_path) == ["out"]


def test_what_a_killed_process_left_is_swept(tmp_path):
    (tmp_path / ".out.0123456789abcdef.part").write_text("half")
    (tmp_path / ".other.0123456789abcdef.part").write_text("half")
    sweep(tmp_path / "out")
    assert names(tmp_path) == [".other.0123456789abcdef.part"]
    (tmp_path / "kept.part").write_text("no scratch file of ours")
    sweep_folder(tmp_path)
    assert names(tmp_path) == ["kept.part"]


def test_a_folder_that_cannot_be_read_is_swept_another_time(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", fails)
    sweep(tmp_path / "out")


def test_swept_before_it_was_locked(tmp_path, monkeypatch):
    """The name is taken anew."""
    from onnxsemi._atomic_file import open_own as real

    swept = []

    def opened(path, flags):
        file = real(path, flags)
        if flags & os.O_EXCL and not swept:
            swept.append(path)
            path.unlink()
        return file

    monkeypatch.setattr("onnxsemi._atomic_file.open_own", opened)
    put("whole", tmp_path / "out")
    assert swept
    assert (tmp_path / "out").read_text() == "whole"


class TestPlanted:
    """Links, fifos and devices in the place of files."""

    @pytest.fixture
    def secret(self, tmp_path):
        path = tmp_path / "secret"
        path.write_text("mine")
        return path

    def test_a_link_is_replaced_and_not_followed(self, tmp_path, secret):
        (tmp_path / "out").symlink_to(secret)
        put("new", tmp_path / "out")
        assert not (tmp_path / "out").is_symlink()
        assert secret.read_text() == "mine"

    def test_a_scratch_file_that_is_a_link_is_left(self, tmp_path, secret):
        (tmp_path / ".out.0.part").symlink_to(secret)
        sweep(tmp_path / "out")
        assert secret.read_text() == "mine"

    @pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
    @pytest.mark.parametrize("kind", ["link", "fifo", "device"])
    def test_own_files(self, tmp_path, secret, flags, kind):
        path = tmp_path / "own"
        if kind == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to(secret if kind == "link" else "/dev/null")
        with pytest.raises(OSError, match=r"link|regular|device"):
            open_own(path, flags)
        if kind == "device":
            with pytest.raises(OSError, match="no regular file"):
                open_own(Path("/dev/null"), flags)

    @pytest.mark.parametrize("kind", ["link", "fifo"])
    @pytest.mark.parametrize("begun", [True, False])
    def test_the_journal(self, tmp_path, secret, kind, begun):
        path = tmp_path / "journal.jsonl"
        journal = Journal(path)

        def plant():
            if kind == "fifo":
                os.mkfifo(path)
            else:
                path.symlink_to(secret)

        if begun:
            plant()
            with pytest.raises(RunError, match=r"journal\.jsonl: cannot be written"):
                journal.ask(Asked(1), int, lambda: 1)
        else:
            plant()
            with pytest.raises(RunError, match=r"journal\.jsonl: cannot be read"):
                Journal(path)
        assert secret.read_text() == "mine"

    def test_files_of_a_run(self, tmp_path, secret):
        write(tmp_path / "whole.json", Asked(1), NO_RUN)
        (tmp_path / "linked.json").symlink_to(tmp_path / "whole.json")
        with pytest.raises(RunError, match=r"linked\.json: cannot be read.*; delete it"):
            read(tmp_path / "linked.json", Asked, NO_RUN, "delete it")
        assert secret.read_text() == "mine"

    def test_the_lock_of_a_run(self, tmp_path, secret):
        (tmp_path / "small.run").mkdir()
        (tmp_path / "small.run/.lock").symlink_to(secret)
        with (
            pytest.raises(RunError, match=r"\.lock: is a link"),
            open_run(tmp_path / "small.run", MadeOf({}, {}), resume=False),
        ):
            pass
        assert secret.read_text() == "mine"

    def test_outputs_that_are_no_files_are_refused_by_name(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", Path("/dev/null"), Path("/dev/full")):
            with pytest.raises(OutputError, match=f"{path}: is no regular file; name a file"):
                check_writable(path)
        with pytest.raises(OutputError, match="no file has such a name"):
            check_writable(Path("a\0b"))


def test_temporary_files_without_room_are_a_line(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(OutputError, match=r"temporary file.*; set TMPDIR"), temporary_folder():
        pass


def test_a_temporary_file_that_cannot_be_deleted_is_left(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fails(*_, **__):
        raise OSError(5, "Input/output error")

    with temporary_folder() as folder:
        (folder / "tried.onnx").write_text("")
        monkeypatch.setattr(os, "unlink", fails)
    assert (folder / "tried.onnx").exists()


def test_arrays_that_cannot_be_read_back_are_not_written(tmp_path, monkeypatch):
    """``zipfile`` begins an archive anew where it cannot read the one that it is to add to."""

    def unreadable(_file):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write_arrays(tmp_path / "a.npz", {"a": np.zeros(3)}, NO_RUN)
    before = (tmp_path / "a.npz").read_bytes()
    monkeypatch.setattr(zipfile, "_EndRecData", unreadable)
    with pytest.raises(OutputError, match=r"a\.npz: cannot be written"):
        write_arrays(tmp_path / "a.npz", {"a": np.ones(3)}, NO_RUN)
    assert (tmp_path / "a.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_a_lock_that_cannot_be_given_back_ends_with_the_process(tmp_path, monkeypatch):
    real, failed = fcntl.flock, []

    def fails(file, how):
        if how == fcntl.LOCK_UN and not failed:
            failed.append(file)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", fails)
    with open_run(tmp_path / "a.run", MadeOf({}, {}), resume=False) as run:
        assert run.path == tmp_path / "a.run"
    assert failed
