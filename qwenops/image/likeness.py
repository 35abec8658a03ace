"""How near one picture is to another: PSNR, and SSIM as its authors define it.

Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE Transactions on Image Processing 13(4), 2004: a Gaussian window of 11 with sigma 1.5, K1 0.01 and K2
0.03, on luma, averaged over the places where the whole window lies inside the picture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from qwenops.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PEAK: Final = 255.0
_SIDE: Final = 11
_SIGMA: Final = 1.5
_K1, _K2 = 0.01, 0.03
_LUMA: Final = (0.299, 0.587, 0.114)  # ITU-R BT.601


def psnr_db(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Peak signal to noise of two pictures of 8 bits, in dB over all channels; infinite where they are equal."""
    import numpy as np

    _check_alike(a, b)
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(_PEAK**2 / error)


def ssim(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Structural similarity of two pictures of 8 bits: 1 where they are equal. Raises BadInput below 11 pixels."""
    import numpy as np

    _check_alike(a, b)
    if min(a.shape[:2]) < _SIDE:
        raise BadInput(f"pictures of {a.shape[1]}x{a.shape[0]} are too small for SSIM", do="at least 11 pixels a side")
    x, y = (_luma(one) for one in (a, b))
    mean_x, mean_y = _blurred(x), _blurred(y)
    spread_x = _blurred(x * x) - mean_x**2
    spread_y = _blurred(y * y) - mean_y**2
    together = _blurred(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * _PEAK) ** 2, (_K2 * _PEAK) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * together + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (spread_x + spread_y + c2)
    return float(np.mean(top / bottom))


def _check_alike(a: NDArray[Any], b: NDArray[Any]) -> None:
    if a.shape != b.shape:
        raise BadInput(f"pictures of {a.shape} and {b.shape} cannot be compared", do="make both at one size")


def _luma(a: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    a = a.astype(np.float64)
    if a.ndim == 2:
        return a
    weighted: NDArray[Any] = a[..., :3] @ np.array(_LUMA)
    return weighted


def _blurred(a: NDArray[Any]) -> NDArray[Any]:
    """A Gaussian mean around each place where the window is whole, one axis after the other."""
    import numpy as np

    steps = np.arange(_SIDE) - _SIDE // 2
    window = np.exp(-(steps**2) / (2 * _SIGMA**2))
    window /= window.sum()
    for axis in (0, 1):
        a = np.apply_along_axis(lambda row: np.convolve(row, window, "valid"), axis, a)
    return a
