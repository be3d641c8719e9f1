"""Files on a disk."""

import os
import resource
import signal
import stat
import time

import pytest

from service_scaffold import storage


@pytest.fixture
def root(tmp_path):
    return tmp_path / 'files'


@pytest.fixture
def files(root):
    return storage.LocalBackend(str(root))


def test_the_mount_point_is_the_root_if_it_exists(tmp_path):
    mount, local = tmp_path / 'mount', tmp_path / 'local'
    storage.LocalBackend(str(local), str(mount)).open('a', 'w').close()
    mount.mkdir()
    storage.LocalBackend(str(local), str(mount)).open('b', 'w').close()

    assert os.listdir(local) == ['a']
    assert os.listdir(mount) == ['b']


def test_a_relative_root_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = storage.LocalBackend('files')
    monkeypatch.chdir('/')
    files.open('a', 'w').close()

    assert os.listdir(tmp_path / 'files') == ['a']


def test_nothing_is_made_before_it_is_needed(files, root):
    assert files.listdir() == []
    assert not files.exists('a')
    assert not root.exists()


@pytest.mark.parametrize('target', ['..', '/etc', '../other/file', 'loop'])
def test_symbolic_links_do_not_lead_out(files, root, tmp_path, target):
    root.mkdir()
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'file').write_text('secret')
    (root / 'loop').symlink_to(tmp_path)
    (root / 'link').symlink_to(target)

    for path in ('link', 'link/a'):
        for mode in ('r', 'w', 'a', 'r+', 'x'):
            with pytest.raises(PermissionError, match='leads out'):
                files.open(path, mode)
        for call in (files.exists, files.listdir):
            with pytest.raises(PermissionError, match='leads out'):
                call(path)
    with pytest.raises(PermissionError, match='leads out'):
        files.delete('link/a')
    assert (tmp_path / 'other' / 'file').read_text() == 'secret'


def test_a_link_that_leads_out_can_be_deleted_itself(files, root, tmp_path):
    root.mkdir()
    (tmp_path / 'other').mkdir()
    (root / 'link').symlink_to(tmp_path / 'other')

    files.delete('link')

    assert files.listdir() == []
    assert (tmp_path / 'other').exists()


def test_a_neighbour_with_the_same_beginning_is_outside(files, root, tmp_path):
    root.mkdir()
    (tmp_path / 'files2').mkdir()
    (root / 'link').symlink_to(tmp_path / 'files2')

    with pytest.raises(PermissionError):
        files.open('link/a', 'w')


def test_links_inside_are_followed(files, root):
    """And what is written goes to where they lead."""
    (root / 'real').mkdir(parents=True)
    (root / 'real' / 'a').write_text('before')
    (root / 'link').symlink_to('real')
    (root / 'file').symlink_to('real/a')
    with files.open('file', 'w') as file:
        file.write('after')

    assert files.open('link/a').read() == 'after'
    assert (root / 'file').is_symlink()


def test_the_root_may_be_a_link_itself(tmp_path):
    (tmp_path / 'real').mkdir()
    (tmp_path / 'link').symlink_to('real')
    files = storage.LocalBackend(str(tmp_path / 'link'))
    files.open('a/b', 'w').close()

    assert files.listdir('a') == ['b']


def test_what_was_killed_while_writing_is_not_seen(files, root):
    files.open('a', 'w').close()
    (root / '.~0123456789abcdef').write_text('half')

    assert files.listdir() == ['a']


@pytest.fixture
def leftovers(files, root):
    """What killed processes have left behind: one is just dead, the other for an hour."""
    files.open('sub/a', 'w').close()
    files.delete('sub/a')
    for name, age_s in (('.~new', 0), ('.~old', 3600)):
        (root / 'sub' / name).write_text('half')
        then = time.time() - age_s
        os.utime(root / 'sub' / name, (then, then))
    return root / 'sub'


def test_what_was_killed_while_writing_goes_when_the_next_process_writes(root, leftovers):
    storage.LocalBackend(str(root)).open('sub/a', 'w').close()

    assert sorted(os.listdir(leftovers)) == ['.~new', 'a']


def test_what_was_killed_while_writing_does_not_keep_a_directory(files, leftovers):
    (leftovers / '.~new').unlink()

    files.delete('sub')

    assert not leftovers.exists()


def test_what_somebody_still_writes_is_not_swept(files, root):
    with files.open('a', 'w') as file:
        (hidden,) = root.iterdir()
        os.utime(hidden, (0, 0))
        storage.LocalBackend(str(root)).open('b', 'w').close()
        file.write('text')

    assert files.open('a').read() == 'text'


def test_after_a_write_that_has_failed_the_file_stays_as_it_was(files, root):
    """As on a full disk; also when nobody has used `with`."""
    with files.open('a', 'w') as file:
        file.write('before')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        file = files.open('a', 'wb')
        with pytest.raises(OSError, match='too large'):
            file.write(bytes(2**20))
        with pytest.raises(OSError, match='too large'):
            file.close()
        files.open('b', 'x').close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)

    assert files.open('a').read() == 'before'
    assert sorted(os.listdir(root)) == ['a', 'b']


def test_a_new_file_has_the_mode_of_the_umask_and_an_old_one_keeps_its_own(files, root):
    before = os.umask(0o027)
    try:
        files.open('new', 'w').close()
        (root / 'old').write_text('')
        (root / 'old').chmod(0o604)
        files.open('old', 'w').close()
    finally:
        os.umask(before)

    assert stat.S_IMODE((root / 'new').stat().st_mode) == 0o640
    assert stat.S_IMODE((root / 'old').stat().st_mode) == 0o604


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everything')
def test_a_protected_file_is_not_replaced(files, root):
    files.open('a', 'w').close()
    (root / 'a').chmod(0o400)

    with pytest.raises(PermissionError):
        files.open('a', 'w')


def test_a_file_is_no_directory(files):
    files.open('a', 'w').close()

    for mode in ('w', 'a', 'x', 'r'):
        with pytest.raises(NotADirectoryError):
            files.open('a/b', mode)
    with pytest.raises(NotADirectoryError):
        files.open('a/b/c', 'w')


def test_an_empty_directory_can_be_deleted(files):
    files.open('a/b', 'w').close()
    files.delete('a/b')
    assert files.listdir('a') == []

    files.delete('a')

    assert files.listdir() == []


def test_what_cannot_be_written_leaves_nothing_behind(files, root):
    """Here the name is too long; a full disk goes the same way."""
    root.mkdir()
    with pytest.raises(OSError, match='too long'), files.open('a' * 300, 'w') as file:
        file.write('text')

    assert os.listdir(root) == []


def test_a_text_that_cannot_be_encoded_leaves_the_file_as_it_was(files):
    with files.open('a', 'w') as file:
        file.write('before')
    with pytest.raises(UnicodeEncodeError), files.open('a', 'w', encoding='ascii') as file:
        file.write('ä')

    assert files.open('a').read() == 'before'


def test_files_have_a_descriptor_for_those_who_need_one(files):
    with files.open('a', 'wb') as file:
        os.truncate(file.fileno(), 10)

    with files.open('a', 'rb') as file:
        assert os.fstat(file.fileno()).st_size == 10
