"""Images become PNG data URIs for a page that opens offline: grey, or a value map in a colour ramp with transparency."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

#: Colour types and the row filter of the PNG specification.
_GREY, _PALETTE, _AVERAGE = 0, 3, 3


def grey_png(image: np.ndarray) -> bytes:
    """Return a PNG of a (row, column) image in [0, 1]."""
    return _png(np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8), _GREY)


def ramp_png(values: np.ndarray, ramp: np.ndarray, threshold: float, opacity: float) -> bytes:
    """Return a PNG of (row, column) values in [0, 1] in the colours of ramp, uint8 (256, 3); transparent below threshold.

    Opacity rises from half of what is given at the threshold to all of it at 1, so that weak values hide little.
    """
    level = np.arange(256) / 255
    alpha = np.where(level < threshold, 0, opacity * 255 * np.interp(level, (threshold, 1), (0.5, 1))).round().astype(np.uint8)
    return _png(np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8), _PALETTE, (b"PLTE", ramp.tobytes()), (b"tRNS", alpha.tobytes()))


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _png(pixels: np.ndarray, colour_type: int, *tables: tuple[bytes, bytes]) -> bytes:
    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    rows = np.full((height, width + 1), _AVERAGE, np.uint8)  # each row opens with its filter
    rows[:, 1:] = pixels - _average(pixels)
    # what is left is noise, which does not repeat: longer searches for repeats take time and save nothing
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    chunks = [(b"IHDR", header), *tables, (b"IDAT", packer.compress(rows.tobytes()) + packer.flush()), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _average(pixels: np.ndarray) -> np.ndarray:
    """Return what PNG's filter 3 predicts: the mean of the pixels to the left and above, 0 outside, rounded down."""
    left, above = np.zeros(pixels.shape, np.uint16), np.zeros(pixels.shape, np.uint16)
    left[:, 1:], above[1:] = pixels[:, :-1], pixels[:-1]
    return ((left + above) // 2).astype(np.uint8)
