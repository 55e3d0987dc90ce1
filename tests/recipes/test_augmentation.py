import numpy as np

from tfp_hybrid.recipes.augmentation import RandomAffine

IMAGES = np.random.default_rng(0).integers(0, 17, (200, 8, 8, 1)).astype("uint8")
STILL = dict(shift=0.0, degrees=0.0, zoom=0.0, shear=0.0)


def test_no_motion_returns_the_images():
    np.testing.assert_array_equal(RandomAffine(17, fraction=1.0, **STILL)(IMAGES), IMAGES)


def test_fraction_zero_returns_the_images():
    np.testing.assert_array_equal(RandomAffine(17, fraction=0.0)(IMAGES), IMAGES)


def test_only_the_fraction_is_moved_and_values_stay_integers_in_range():
    moved = RandomAffine(17, fraction=0.3)(IMAGES).numpy()
    assert moved.dtype == IMAGES.dtype and moved.shape == IMAGES.shape
    assert moved.max() <= 16
    changed = (moved != IMAGES).any(axis=(1, 2, 3)).mean()
    assert 0.15 < changed < 0.45


def test_a_centred_disk_is_unchanged_by_rotation_and_moved_by_shift():
    rows, columns = np.indices((15, 15)) - 7
    disk = (16 * (rows**2 + columns**2 <= 25)).astype("uint8")[None, ..., None].repeat(50, 0)
    turned = RandomAffine(17, fraction=1.0, **STILL | {"degrees": 90.0})(disk).numpy()
    inside = (rows**2 + columns**2 <= 9)[..., None]
    assert (turned[:, inside] == 16).all()
    shifted = RandomAffine(17, fraction=1.0, **STILL | {"shift": 3.0})(disk).numpy().astype(float)
    centre = (shifted[..., 0] * rows).sum((1, 2)) / shifted.sum((1, 2, 3))
    assert np.abs(centre).max() <= 3.1 and centre.std() > 0.5
