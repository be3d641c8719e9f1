"""What every back end promises."""

import csv
import gc
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import pytest


def write(backend, path, text):
    with backend.open(path, 'w') as file:
        file.write(text)


def read(backend, path):
    with backend.open(path) as file:
        return file.read()


def test_what_was_written_is_read(backend):
    """Directories on the way are made."""
    write(backend, 'a/b/c.txt', 'one\ntwo ä€\n')

    assert read(backend, 'a/b/c.txt') == 'one\ntwo ä€\n'
    with backend.open(PurePosixPath('a/b/c.txt')) as file:
        assert list(file) == ['one\n', 'two ä€\n']
    with backend.open('a/b/c.txt', 'rb') as file:
        assert file.read() == 'one\ntwo ä€\n'.encode()


def test_texts_are_utf_8_unless_said_otherwise(backend):
    with backend.open('a', 'w', encoding='latin-1', newline='\r\n') as file:
        file.write('ä\n')

    with backend.open('a', 'rb') as file:
        assert file.read() == b'\xe4\r\n'
    with pytest.raises(UnicodeDecodeError):
        read(backend, 'a')


def test_bytes_are_written_and_read(backend):
    data = bytes(range(256)) * 100
    with backend.open('a.bin', 'wb') as file:
        assert file.write(data) == len(data)
        file.write(memoryview(b'end'))

    with backend.open('a.bin', 'rb') as file:
        assert file.read(3) == data[:3]
        assert file.seek(-3, io.SEEK_END) == len(data)
        assert file.read() == b'end'
        assert file.tell() == len(data) + 3


def test_writing_replaces(backend):
    write(backend, 'a', 'long text')
    write(backend, 'a', 'short')

    assert read(backend, 'a') == 'short'


def test_appending_appends(backend):
    for text in ('one ', 'two ', ''):
        with backend.open('logs/a', 'a') as file:
            file.write(text)
    with backend.open('logs/a', 'ab+') as file:
        file.seek(0)
        file.write(b'three')
        file.seek(0)

        assert file.read() == b'one two three'
    assert read(backend, 'logs/a') == 'one two three'


def test_updating_changes_what_is_there(backend):
    write(backend, 'a', 'one two')
    with backend.open('a', 'r+b') as file:
        assert file.read(4) == b'one '
        file.write(b'TWO')
        file.seek(0)
        file.write(b'ONE')
    assert read(backend, 'a') == 'ONE TWO'

    with backend.open('a', 'r+b') as file:
        file.truncate(3)
    assert read(backend, 'a') == 'ONE'


def test_w_plus_reads_what_it_has_written(backend):
    with backend.open('a', 'w+') as file:
        file.write('text')
        file.seek(0)

        assert file.read() == 'text'


def test_x_claims_the_name_at_once(backend):
    with backend.open('lock', 'x') as file:
        with pytest.raises(FileExistsError):
            backend.open('lock', 'x')
        file.write('mine')

    assert read(backend, 'lock') == 'mine'


def test_x_gives_the_name_back_when_it_fails(backend):
    with pytest.raises(LookupError), backend.open('lock', 'x'):
        raise LookupError

    assert not backend.exists('lock')
    backend.open('lock', 'x').close()


@pytest.mark.parametrize('mode', ['w', 'wb', 'w+'])
def test_an_exception_leaves_the_file_as_it_was(backend, mode):
    write(backend, 'a', 'before')

    def fail():
        with backend.open('a', mode) as file:
            file.write(b'half' if 'b' in mode else 'half')
            file.flush()
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    assert read(backend, 'a') == 'before'
    assert backend.listdir() == ['a']


def test_nobody_reads_half_a_file(backend):
    write(backend, 'a', 'before')
    file = backend.open('a', 'w')
    file.write('x' * 100_000)
    file.flush()

    assert read(backend, 'a') == 'before'
    assert backend.listdir() == ['a']
    file.close()
    assert read(backend, 'a') == 'x' * 100_000


def test_a_file_that_is_read_does_not_change_meanwhile(backend):
    write(backend, 'a', 'before')
    with backend.open('a') as file:
        write(backend, 'a', 'after!')

        assert file.read() == 'before'


def test_a_file_that_nobody_has_closed_is_written_in_the_end(backend):
    """As it is with Python's own."""
    backend.open('a', 'w').write('text')

    assert read(backend, 'a') == 'text'


def test_closing_twice_writes_once(backend):
    file = backend.open('a', 'wb')
    file.write(b'mine')
    file.close()
    write(backend, 'a', 'theirs')
    file.close()

    assert read(backend, 'a') == 'theirs'
    with pytest.raises(ValueError, match='closed'):
        file.write(b'x')


def test_modes_mean_what_they_say(backend):
    write(backend, 'a', 'text')
    with backend.open('a', 'rb') as file:
        assert (file.readable(), file.writable(), file.seekable()) == (True, False, True)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b'x')
    with backend.open('a', 'wb') as file:
        assert (file.readable(), file.writable()) == (False, True)
        with pytest.raises(io.UnsupportedOperation):
            file.read()


@pytest.mark.parametrize('mode', ['', 'q', 'rw', 'rbt', 'rr', 'r++', 'b', '+', 'U'])
def test_what_is_no_mode_is_a_value_error(backend, mode):
    with pytest.raises(ValueError, match=r'mode|binary'):
        backend.open('a', mode)


def test_a_binary_file_has_no_encoding(backend):
    for text in ({'encoding': 'utf-8'}, {'errors': 'ignore'}, {'newline': ''}):
        with pytest.raises(ValueError, match='encoding'):
            backend.open('a', 'wb', **text)


@pytest.mark.parametrize('wrong', [{'encoding': 'bogus'}, {'newline': 'bogus'}])
def test_what_is_wrong_with_a_text_is_said_before_anything_is_opened(backend, wrong):
    write(backend, 'a', 'before')

    for path, mode in (('a', 'w'), ('a', 'r+'), ('new', 'x'), ('new', 'a')):
        with pytest.raises((LookupError, ValueError), match='bogus'):
            backend.open(path, mode, **wrong)

    gc.collect()
    assert read(backend, 'a') == 'before'
    assert backend.listdir() == ['a']


def test_bytes_that_are_no_text_are_read_as_errors_says(backend):
    with backend.open('a', 'wb') as file:
        file.write(b'one \xff')

    assert backend.open('a', errors='replace').read() == 'one \ufffd'


def test_a_file_knows_its_mode(backend):
    for mode in ('w', 'r', 'a+', 'wb', 'rb'):
        with backend.open('a', mode) as file:
            assert file.mode == mode


def test_directories_are_listed(backend):
    for path in ('b', 'a/x', 'a/y/z', 'ab'):
        write(backend, path, '')

    assert backend.listdir() == ['a', 'ab', 'b']
    assert backend.listdir('.') == backend.listdir('')
    assert backend.listdir('a') == backend.listdir('./a//') == ['x', 'y']
    assert backend.listdir('a/y') == ['z']
    with pytest.raises(FileNotFoundError):
        backend.listdir('c')
    with pytest.raises(NotADirectoryError):
        backend.listdir('b')


def test_a_storage_with_nothing_in_it_is_empty(backend):
    assert backend.listdir() == []
    assert backend.exists('')
    assert not backend.exists('a')


def test_files_and_directories_exist(backend):
    write(backend, 'a/b', '')

    assert backend.exists('a/b')
    assert backend.exists('a')
    assert not backend.exists('a/bc')
    assert not backend.exists('a/b/c')


def test_deleting_deletes(backend):
    write(backend, 'a/b', '')
    write(backend, 'a/c', '')

    backend.delete('a/b')

    assert backend.listdir('a') == ['c']
    with pytest.raises(FileNotFoundError):
        backend.delete('a/b')
    with pytest.raises(OSError, match='not empty'):
        backend.delete('a')
    with pytest.raises(PermissionError):
        backend.delete('')


def test_what_is_not_there_cannot_be_read(backend):
    for mode in ('r', 'rb', 'r+'):
        with pytest.raises(FileNotFoundError):
            backend.open('a/b', mode)
    assert not backend.exists('a')


def test_a_directory_is_no_file(backend):
    write(backend, 'a/b', '')

    for path, mode in (('a', 'r'), ('', 'r'), ('', 'w')):
        with pytest.raises(IsADirectoryError):
            backend.open(path, mode)


ESCAPES = ['/a', '//a', '..', '../a', 'a/../b', 'a/..', 'a\\b', '..\\a', 'a\0b', '.~a', 'a/.~b/c']


def test_nothing_leaves_the_storage(backend):
    for path in ESCAPES:
        for mode in ('r', 'w', 'a', 'x'):
            with pytest.raises(PermissionError):
                backend.open(path, mode)
        for call in (backend.exists, backend.delete, backend.listdir):
            with pytest.raises(PermissionError):
                call(path)


def test_a_path_has_a_length_and_can_be_written(backend):
    write(backend, 'é/' * 300 + 'a', 'text')
    for path in ('é' * 513, '/'.join('a' * 513)):
        for call in (backend.open, backend.exists, backend.delete, backend.listdir):
            with pytest.raises(OSError, match='too long'):
                call(path)
    with pytest.raises(PermissionError, match='UTF-8'):
        backend.open('a\ud800', 'w')


@pytest.mark.parametrize('path', [b'a', None, 3])
def test_a_path_is_a_text(backend, path):
    with pytest.raises(TypeError):
        backend.open(path)


def test_names_may_hold_almost_everything(backend):
    names = ['a b', 'ä/€', '..a', 'a..', '%2e%2e', 'a:b', '~', 'a?b#c', '-', 'a+b', "'", '"']
    for name in names:
        write(backend, name, name)

    assert [read(backend, name) for name in names] == names
    assert backend.listdir() == sorted(name.partition('/')[0] for name in names)


def test_libraries_that_write_files_take_ours(backend):
    with backend.open('a.csv', 'w', newline='') as file:
        csv.writer(file).writerows([['a', 'b'], [1, 2]])
    with backend.open('a.json', 'w') as file:
        json.dump({'a': 1}, file)
    with backend.open('a.zip', 'wb') as file, zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('inside', 'text')

    with backend.open('a.csv', newline='') as file:
        assert list(csv.reader(file)) == [['a', 'b'], ['1', '2']]
    with backend.open('a.json') as file:
        assert json.load(file) == {'a': 1}
    with backend.open('a.zip', 'rb') as file, zipfile.ZipFile(file) as archive:
        assert archive.read('inside') == b'text'


def test_threads_may_share_it(backend):
    def work(number):
        write(backend, f'{number % 3}/{number}', str(number))
        return read(backend, f'{number % 3}/{number}')

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(24))) == [str(number) for number in range(24)]
    assert len(backend.listdir('1')) == 8


def test_of_many_who_claim_one_gets_it(backend):
    def claim(number):
        try:
            write_new(str(number))
        except FileExistsError:
            return 0
        return 1

    def write_new(text):
        with backend.open('lock', 'x') as file:
            file.write(text)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1
