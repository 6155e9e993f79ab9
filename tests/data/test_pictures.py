"""Every mode found in real data sets becomes the right 8-bit RGB."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from pipeline.data.pictures import decode, decode_pixels, open_whole


def encode(image, kind="PNG", **more):
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def pixels(image, kind="PNG", **more):
    decoded = decode(encode(image, kind, **more))
    assert decoded.mode == "RGB"
    return np.asarray(decoded)


GREY = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (8, 1))
AS_RGB = np.repeat(GREY[..., None], 3, axis=2)


def test_greyscale():
    assert (pixels(Image.fromarray(GREY)) == AS_RGB).all()


def test_16_bit_greyscale_is_scaled_not_clipped():
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert np.abs(pixels(deep).astype(int) - AS_RGB).max() <= 1


def test_palette_with_transparency_keeps_its_colours():
    image = Image.fromarray(AS_RGB).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    assert (pixels(image, transparency=bytes([0, 128])) == expected).all()


def test_transparency_is_dropped():
    alpha = np.full((8, 32, 1), 3, np.uint8)
    assert (pixels(Image.fromarray(np.concatenate([AS_RGB, alpha], axis=2))) == AS_RGB).all()


def test_cmyk_jpeg_is_converted():
    red = Image.new("RGB", (16, 16), (220, 30, 40)).convert("CMYK")
    assert np.abs(pixels(red, "JPEG", quality=95).astype(int) - (220, 30, 40)).max() < 12


def test_bilevel():
    assert set(pixels(Image.fromarray(GREY > 100)).ravel()) == {0, 255}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_that_was_cut_off_is_an_error(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(Image.fromarray(noise), kind)
    assert open_whole(data).size == (64, 64)
    for share in (0.3, 0.7, 0.95):
        with pytest.raises(ValueError):
            open_whole(data[: int(share * len(data))])


@pytest.mark.parametrize("data", [b"", b"<html>404</html>", bytes(1000)])
def test_what_is_no_image_is_an_error_that_can_be_read(data):
    with pytest.raises(ValueError, match=r"^[^<>]+$"):
        decode(data)


def noise(side=61, mode="RGB"):
    small = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    return Image.fromarray(small).resize((side + 12, side), Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind", "more"),
    [
        ("RGB", "JPEG", {"quality": 90}),
        ("RGB", "JPEG", {"quality": 75, "subsampling": 0}),
        ("RGB", "JPEG", {"progressive": True}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "PNG", {}),
        ("RGB", "PNG", {"compress_level": 0}),
        ("RGB", "PNG", {"dpi": (72, 72)}),
        ("RGBA", "PNG", {}),
        ("L", "PNG", {}),
        ("P", "PNG", {}),
        ("I;16", "PNG", {}),
    ],
)
def test_pixels_are_pillows(mode, kind, more):
    data = encode(noise(mode="L").convert("I;16") if mode == "I;16" else noise(mode=mode), kind, **more)
    assert np.array_equal(decode_pixels(data), np.asarray(decode(data)))


def test_a_png_of_which_any_byte_differs_is_read_as_pillow_reads_it():
    """A plain one is read by OpenCV, which looks at its sums as well."""
    data = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)))
    end = data[-12:]
    odds = [data[:place] + bytes([data[place] ^ 0x11]) + data[place + 1 :] for place in range(len(data))]
    for odd in [*odds, *(data[:place] + end for place in range(len(data) - 12)), data + b"more", data[:-12] * 2 + end]:
        try:
            expected = np.asarray(decode(odd))
        except ValueError as error:
            with pytest.raises(ValueError) as ours:
                decode_pixels(odd)
            assert str(ours.value) == str(error)
        else:
            assert np.array_equal(decode_pixels(odd), expected)


def test_a_jpeg_with_a_fault_is_read_as_pillow_reads_it():
    """Bytes before the end of the image: libjpeg warns, which is no reason to lose the image."""
    data = encode(noise(), "JPEG")
    odd = data[:-2] + bytes(9) + data[-2:]
    with pytest.raises(ValueError):
        simplejpeg.decode_jpeg(odd)
    assert np.array_equal(decode_pixels(odd), np.asarray(decode(odd)))


@pytest.mark.parametrize("data", [b"", b"<html>", encode(noise(), "JPEG")[:-300], encode(noise())[:-300]])
def test_what_is_no_whole_image_is_refused_alike(data):
    with pytest.raises(ValueError) as theirs:
        decode(data)
    with pytest.raises(ValueError) as ours:
        decode_pixels(data)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_reduced_image_is_the_image_made_smaller(kind, factor):
    image = noise(150)
    data = encode(image, kind)
    reduced = decode_pixels(data, factor).astype(int)
    assert reduced.shape[:2] == (-(-150 // factor), -(-162 // factor))
    assert np.abs(reduced - np.asarray(decode(data).reduce(factor))).mean() < 2
