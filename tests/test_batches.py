import pytest
import torch

from srat_utils.batches import augment, number, shuffled


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("flip", [True, False])
def test_every_augmented_image_is_a_window_of_its_own_padded_one(dtype, flip):
    images = torch.randint(1, 256, (60, 3, 5, 6), generator=torch.Generator().manual_seed(0)).to(dtype)
    result = augment(images, torch.Generator().manual_seed(1), padding=2, flip=flip)
    assert result.shape == images.shape and result.dtype == dtype
    seen = set()
    for image, augmented in zip(images, result, strict=True):
        padded = torch.zeros(3, 9, 10, dtype=dtype)
        padded[:, 2:7, 2:8] = image
        windows = {(y, x): padded[:, y : y + 5, x : x + 6] for y in range(5) for x in range(5)}
        matches = {(*at, False) for at, window in windows.items() if torch.equal(window, augmented)}
        matches |= {(*at, True) for at, window in windows.items() if torch.equal(window.flip(2), augmented)}
        assert len(matches) == 1
        seen |= matches
    assert len(seen) > 15  # each image draws its own
    assert {mirrored for _, _, mirrored in seen} == ({True, False} if flip else {False})


def test_augmentation_repeats_and_leaves_its_input_and_the_global_generator_alone():
    images = torch.rand(8, 1, 8, 8)
    original, state = images.clone(), torch.get_rng_state()
    first, second = (augment(images, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(images, original) and torch.equal(state, torch.get_rng_state())
    assert torch.equal(augment(images, torch.Generator(), padding=0, flip=False), images)


@pytest.mark.parametrize("images", range(1, 12))
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 20])
def test_the_number_of_batches_is_known_beforehand_and_those_that_are_done_are_passed_over(images, batch_size):
    x, y = torch.arange(images, dtype=torch.uint8)[:, None, None, None], torch.arange(images)

    def labels(done=0):
        return [part.tolist() for _, part in shuffled(x, y, batch_size, torch.Generator().manual_seed(3), done)]

    assert len(labels()) == number(images, batch_size)
    assert labels(done=1) == labels()[1:]
