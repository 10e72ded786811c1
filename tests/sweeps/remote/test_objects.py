"""Objects at an address: what is read while somebody else writes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from sweeps.remote.address import parse
from sweeps.remote.objects import Objects, UnreachableError
from tests._s3 import S3Server

KEY = "a.json"


def replaced_at_each_read(s3: S3Server, contents: Iterator[bytes]) -> Objects:
    """Return objects of which one gets new content after its size was asked for, as long as any."""
    objects, writer = Objects(parse(s3.storage)), Objects(parse(s3.storage))
    objects.write(KEY, b"short")
    writer.write("other", b"connects")

    def replace(request: str) -> bool:
        if request == f"GET some/where/{KEY}":
            for content in itertools.islice(contents, 1):
                thread = threading.Thread(target=writer.write, args=(KEY, content))
                thread.start()
                thread.join(10)
                assert not thread.is_alive()
        return False

    s3.fails = replace
    return objects


def test_an_object_that_is_replaced_while_it_is_read_comes_whole(s3: S3Server) -> None:
    objects = replaced_at_each_read(s3, iter([b"much longer than before"]))
    assert objects.read(KEY) == b"much longer than before"
    assert objects.read("b.json") is None


def test_an_object_that_is_never_still_is_an_error_not_a_part(s3: S3Server) -> None:
    objects = replaced_at_each_read(s3, (b"x" * size for size in itertools.count(10)))
    with pytest.raises(UnreachableError, match="must not change while it is read"):
        objects.read(KEY)
