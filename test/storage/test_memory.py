"""Files in memory."""

import pytest

from service_scaffold import storage


def test_who_appends_at_the_same_time_takes_nothing_from_the_other():
    files = storage.MemoryBackend()
    with files.open('a', 'a') as one, files.open('a', 'a') as two:
        one.write('one ')
        two.write('two ')

    with files.open('a') as file:
        assert sorted(file.read().split()) == ['one', 'two']


def test_a_file_is_no_directory():
    files = storage.MemoryBackend()
    files.open('a', 'w').close()

    with pytest.raises(NotADirectoryError):
        files.open('a/b', 'w')
    for call in (files.delete, files.listdir):
        with pytest.raises(NotADirectoryError):
            call('a/b')


def test_each_has_files_of_its_own():
    storage.MemoryBackend().open('a', 'w').close()

    assert storage.MemoryBackend().listdir() == []
