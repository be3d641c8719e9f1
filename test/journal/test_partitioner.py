"""The partitioner agrees with every other Kafka client."""

import pytest

from service_scaffold.journal.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ('data', 'signed'),
    [
        (b'21', -973932308),
        (b'foobar', -790332482),
        (b'a-little-bit-long-string', -985981536),
        (b'a-little-bit-longer-string', -1486304829),
        (b'lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971),
        (b'abc', 479470107),
    ],
)
def test_murmur2_gives_the_values_of_the_java_client(data, signed):
    """Vectors of Kafka's own UtilsTest."""
    assert murmur2(data) == signed % 2**32


def test_text_and_its_bytes_have_the_same_partition():
    assert partition_of('Ölstand', 7) == partition_of('Ölstand'.encode(), 7)


def test_partitions_are_those_of_aiokafka():
    partitioner = pytest.importorskip('aiokafka.partitioner')
    keys = [f'key-{number}'.encode() for number in range(200)]
    everywhere = list(range(12))

    theirs = [partitioner.DefaultPartitioner()(key, everywhere, everywhere) for key in keys]

    assert [partition_of(key, 12) for key in keys] == theirs
