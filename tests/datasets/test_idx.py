import gzip
import struct

import numpy as np
import pytest

from tfp_hybrid.datasets.idx import find_idx, read_idx

IMAGES = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 2, 3) + bytes(range(12))


@pytest.mark.parametrize("content", [IMAGES, gzip.compress(IMAGES)], ids=["plain", "gzip"])
def test_reads_plain_and_compressed(tmp_path, content):
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(content)
    images = read_idx(path, rank=3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, np.arange(12).reshape(2, 2, 3))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is not an idx file"),
        (b"\x89PNG" + IMAGES[4:], "starts with 89504e47; wanted 00000803"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 2) + b"ab", "starts with 00000801; wanted 00000803"),
        (IMAGES[:9], "is not an idx file"),
        (IMAGES[:-1], r"has 11 values, but its header gives the shape \(2, 2, 3\)"),
        (IMAGES + b"!", "has 13 values"),
        (gzip.compress(IMAGES)[:-9], "is a damaged gzip file"),
    ],
    ids=["empty", "magic", "rank", "header", "short", "long", "gzip"],
)
def test_damaged_files_are_named(tmp_path, content, complaint):
    path = tmp_path / "some-images"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}.*{complaint}"):
        read_idx(path, rank=3)


def test_find_idx(tmp_path):
    assert find_idx(tmp_path, "a") is None
    (tmp_path / "a.gz").touch()
    assert find_idx(tmp_path, "a") == tmp_path / "a.gz"
    (tmp_path / "a").touch()
    assert find_idx(tmp_path, "a") == tmp_path / "a"
