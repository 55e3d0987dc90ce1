import pathlib
import tarfile

import numpy as np
import PIL.Image
import pytest

from tfp_hybrid.datasets.letter_images import read_letter_images


@pytest.fixture
def letters(tmp_path):
    """Two images a letter; every pixel of an image tells letter and number as 10 * letter + i."""
    folder = tmp_path / "notMNIST_small"
    for label, name in enumerate("ABCDEFGHIJ"):
        (folder / name).mkdir(parents=True)
        for i in range(2):
            pixels = np.full((28, 28), 10 * label + i, np.uint8)
            PIL.Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def pack(folder: pathlib.Path) -> pathlib.Path:
    path = folder.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
    return path


def test_every_image_keeps_its_label(letters):
    x, y = read_letter_images(letters)
    assert x.shape == (20, 28, 28) and x.dtype == y.dtype == np.uint8
    assert sorted(x[:, 0, 0]) == [10 * label + i for label in range(10) for i in range(2)]
    np.testing.assert_array_equal(x[:, 0, 0] // 10, y)
    assert list(y) != sorted(y)


def test_archive_and_folder_agree(letters):
    forms = read_letter_images(letters), read_letter_images(pack(letters))
    for ours, theirs in zip(*forms, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_unreadable_images_are_passed_over(letters):
    whole = (letters / "B" / "1.png").read_bytes()
    (letters / "A" / "empty.png").touch()
    (letters / "B" / "1.png").write_bytes(whole[: len(whole) // 2])
    (letters / "C" / "text.png").write_text("no picture")
    x, y = read_letter_images(letters)
    assert len(x) == 19
    assert 11 not in x[:, 0, 0]
    assert np.bincount(y).tolist() == [2, 1, 2, 2, 2, 2, 2, 2, 2, 2]


def test_missing_letter(letters):
    for path in (letters / "D").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=rf"{letters} has no readable image .* \['D'\]"):
        read_letter_images(letters)


def test_wrong_size(letters):
    PIL.Image.new("L", (32, 28)).save(letters / "E" / "wide.png")
    with pytest.raises(ValueError, match=r"E/wide.png in .* \(28, 32\); wanted \(28, 28\)"):
        read_letter_images(letters)


def test_damaged_archive(letters):
    path = pack(letters)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ValueError, match=f"{path} is not a readable tar archive"):
        read_letter_images(path)
