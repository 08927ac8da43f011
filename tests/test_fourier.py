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
    power, whole = fourier.transform(x).abs(), torch.fft.fftn(x, norm="ortho").abs()
    assert torch.allclose(fourier.centred(power, shape), torch.fft.fftshift(whole))
    assert torch.equal(fourier.half_of(fourier.centred(power, shape)), power)


def test_no_bin_at_nyquist_is_kept():
    kept = fourier.below_nyquist((6, 7, 8)) > 0
    k = fourier.frequencies((6, 7, 8)).abs()
    assert k[:, kept].max() < 0.5
    assert not kept[3].any()
    assert not kept[:, :, 4].any()
    assert kept[:, 3, 0].any()
