import pytest
import torch

from cryovae import fourier

SHAPES = [(6, 9, 8), (7, 4, 5), (10, 12, 11)]


@pytest.mark.parametrize("shape", SHAPES)
def test_half_spectrum_with_multiplicity_keeps_the_power(shape):
    x = torch.randn(2, *shape, dtype=torch.float64)
    power = fourier.transform(x).abs().square() * fourier.multiplicity(shape)
    assert torch.allclose(power.sum((1, 2, 3)), x.square().sum((1, 2, 3)))


@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_undoes_transform(shape):
    x = torch.randn(*shape, dtype=torch.float64)
    assert torch.allclose(fourier.inverse(fourier.transform(x), shape), x)


@pytest.mark.parametrize("shape", SHAPES)
def test_frequencies_are_cycles_per_voxel(shape):
    z = torch.arange(shape[0])[:, None, None] * torch.ones(shape)
    wave = torch.cos(2 * torch.pi * 2 / shape[0] * z)
    peak = fourier.transform(wave).abs().flatten().argmax()
    kz, ky, kx = fourier.frequencies(shape).flatten(1)[:, peak]
    assert abs(kz) == pytest.approx(2 / shape[0])
    assert ky == kx == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_a_centred_spectrum_has_both_signs(shape):
    """As the whole transform has them; and back again."""
    x = torch.randn(*shape, dtype=torch.float64)
    power, full = fourier.transform(x).abs(), torch.fft.fftn(x, norm="ortho").abs()
    assert torch.allclose(fourier.centred(power, shape), torch.fft.fftshift(full))
    assert torch.equal(fourier.half_of(fourier.centred(power, shape)), power)


def test_no_bin_at_nyquist_is_kept():
    kept = fourier.below_nyquist((6, 7, 8)) > 0
    k = fourier.frequencies((6, 7, 8)).abs()
    assert k[:, kept].max() < 0.5
    assert not kept[3].any()
    assert not kept[:, :, 4].any()
    assert kept[:, 3, 0].any()


def test_shell_sums_add_up_to_the_sum_of_all_bins():
    values = torch.randn(3, 5, 4, 7, dtype=torch.float64)
    shell = torch.randint(0, 6, (5, 4, 7))
    sums = fourier.shell_sums(values, shell, 8)
    for number in range(8):
        assert torch.allclose(sums[:, number], (values * (shell == number)).sum((1, 2, 3)))
    assert torch.allclose(sums.sum(1), values.sum((1, 2, 3)))


def test_shell_sums_of_parts_are_those_of_the_spectrum():
    values, shell = torch.randn(2, 6, 3, 5), torch.randint(0, 4, (6, 3, 5))
    sums = torch.zeros(2, 4, dtype=torch.float64)
    for rows in (slice(0, 2), slice(2, 6)):
        fourier.add_shell_sums(sums, values[:, rows], shell[rows])
    assert torch.equal(sums, fourier.shell_sums(values, shell, 4))


def test_one_table_of_shells_serves_a_batch():
    values, shell = torch.randn(1, 3, 6, 3, 5), torch.randint(0, 4, (6, 3, 5))
    assert torch.allclose(fourier.shell_sums(values, shell, 4), fourier.shell_sums(values.double().sum(1), shell, 4))


@pytest.mark.parametrize("new", [(18, 15, 9), (8, 7, 11), (12, 10, 13)])
def test_waves_keep_their_grey_values_on_another_grid(new):
    """Waves of both signs along z, y and x, and a constant, as they are at the points of either grid."""
    old = (12, 10, 13)

    def waves(shape):
        z, y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) / n for n in shape], indexing="ij")
        return 2 + torch.cos(6.2831853 * (z + 2 * y - x)) + 0.5 * torch.sin(6.2831853 * (2 * x - 3 * z - y))

    assert torch.allclose(fourier.resampled(waves(old), new), waves(new), atol=1e-4)
