import pytest
import torch
from torchvision.transforms import v2

from srat_utils.batches import SAMPLERS, augment, batches_per_epoch, class_balanced, rand_augment


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
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_number_of_batches_is_known_beforehand_and_those_that_are_done_are_passed_over(images, batch_size, sampler):
    x, y = torch.arange(images, dtype=torch.uint8)[:, None, None, None], torch.arange(images)

    def labels(done=0):
        return [
            part.tolist() for _, part in SAMPLERS[sampler](x, y, batch_size, torch.Generator().manual_seed(3), done)
        ]

    assert len(labels()) == batches_per_epoch(images, batch_size)
    assert labels(done=1) == labels()[1:]


def numbered(counts):
    """Images that carry their number, and labels, the rarest class first where counts say so."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2), labels


def test_balanced_batches_hold_as_many_of_each_class_and_rare_images_again_and_again():
    images, labels = numbered([2, 30, 168])
    drawn = [
        pair for seed in range(20) for pair in class_balanced(images, labels, 32, torch.Generator().manual_seed(seed))
    ]
    x, y = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    assert len(y) == 20 * 200
    assert torch.equal(labels[(x[:, 0, 0, 0] * 255).round().long()], y)
    share = torch.bincount(y).float() / len(y)
    assert (share - 1 / 3).abs().max() < 0.03  # four standard errors
    times = torch.bincount((x[:, 0, 0, 0] * 255).round().long(), minlength=200).float() / 20
    assert times[:2].mean() > 25 * times[32:].mean()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("n", "size"), [(33, 32), (1, 32), (5, 1), (4, 9)])
def test_samplers_draw_as_many_images_as_there_are_and_leave_no_single_one_behind(sampler, n, size):
    images, labels = numbered([1, n - 1] if n > 1 else [1])
    state = torch.get_rng_state()
    first, again = (list(SAMPLERS[sampler](images, labels, size, torch.Generator().manual_seed(3))) for _ in range(2))
    sizes = [len(y) for _, y in first]
    assert sum(sizes) == n and (size == 1 or n == 1 or min(sizes) > 1)
    assert all(torch.equal(x, other) for (x, _), (other, _) in zip(first, again, strict=True))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_is_torchvisions_image_by_image_and_leaves_the_global_generator_alone(channels):
    images, state = torch.rand(30, channels, 8, 8), torch.get_rng_state()
    original = images.clone()
    first, again = (rand_augment(images, torch.Generator().manual_seed(4), 2, 8) for _ in range(2))
    other = rand_augment(images, torch.Generator().manual_seed(5), 2, 8)
    assert torch.equal(first, again) and not torch.equal(first, other) and torch.equal(images, original)
    assert torch.equal(state, torch.get_rng_state())
    assert first.shape == images.shape and first.min() >= 0 and first.max() <= 1
    changed = (first != images).flatten(1).any(1)
    assert 10 < changed.sum() < 30  # each image draws its own, and some draw the identity
    assert torch.equal(rand_augment(images, torch.Generator(), 0, 8), images)
    # The first image, by torchvision's own hand from the seed that the generator gives.
    seed = int(torch.randint(2**31, (), generator=torch.Generator().manual_seed(4)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        assert torch.equal(first[0], v2.RandAugment(2, 8)(images[0]))
