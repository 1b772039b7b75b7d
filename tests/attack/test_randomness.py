import torch

from bench.attack import randomness

KEYS = randomness.keys(0, "square", torch.arange(1000))


def test_it_is_splitmix64():
    """The first numbers of the published generator with seed 0."""
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    found = randomness.bits(torch.zeros(1, dtype=torch.int64), torch.arange(3))
    assert [word % (1 << 64) for word in found.tolist()] == expected


def test_keys_tell_seeds_attacks_and_images_apart():
    every = [
        randomness.keys(seed, attack, torch.arange(500)) for seed in (0, 1, -1) for attack in ("apgd-ce", "square")
    ]
    assert len(torch.cat(every).unique()) == 6 * 500


def test_a_draw_depends_on_its_key_and_counter_alone():
    counter = torch.arange(7)
    together = randomness.uniform(KEYS.unsqueeze(1), counter)
    assert torch.equal(randomness.uniform(KEYS[5:6].unsqueeze(1), counter[3:4])[0, 0], together[5, 3])


def test_uniform_and_normal_numbers_have_their_moments():
    counter = torch.arange(200)
    uniform = randomness.uniform(KEYS.unsqueeze(1), counter)
    assert 0 <= uniform.min() < 1e-4
    assert 1 - 1e-4 < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 2e-3
    normal = randomness.normal(KEYS.unsqueeze(1), counter)
    assert normal.isfinite().all()
    assert abs(normal.mean()) < 8e-3
    assert abs(normal.std() - 1) < 5e-3
    neighbours = torch.corrcoef(torch.stack([uniform[:, :-1].flatten(), uniform[:, 1:].flatten()]))[0, 1]
    assert abs(neighbours) < 8e-3


def test_whole_numbers_fill_their_range_evenly():
    words = randomness.bits(KEYS.unsqueeze(1), torch.arange(100))
    for shift in (16, 40):
        counts = randomness.below(7, words, shift=shift).flatten().bincount()
        assert len(counts) == 7
        assert (counts / counts.sum() - 1 / 7).abs().max() < 5e-3
    assert not randomness.below(0, words, shift=16).any()
