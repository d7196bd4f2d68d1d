"""`CvBridge` over NumPy; compressed images through OpenCV where it is installed, else through Pillow."""

from __future__ import annotations

import io
import sys
from array import array
from typing import Any

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from cv_bridge import encodings

_FORMATS = {
    "jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "png": "PNG", "bmp": "BMP", "dib": "BMP", "tif": "TIFF",
    "tiff": "TIFF", "webp": "WEBP",
}  # fmt: skip


class CvBridgeError(TypeError):
    """A conversion that is not possible."""


class CvBridge:
    """Converts between sensor_msgs images and arrays of shape (height, width) or (height, width, channels)."""

    def imgmsg_to_cv2(self, img_msg: Any, desired_encoding: str = "passthrough") -> Any:
        """The array of an image, in its own encoding or converted.

        Without a conversion the array shares the message's memory.  Raises CvBridgeError for unknown encodings, for
        conversions that do not exist, and when the message's sizes do not agree.
        """
        if not isinstance(img_msg, Image):
            raise CvBridgeError(f"expected a sensor_msgs/Image, got {type(img_msg).__name__}")
        dtype, channels = _parse(img_msg.encoding)
        kind = np.dtype(dtype).newbyteorder(">" if img_msg.is_bigendian else "<")
        row = img_msg.width * channels * kind.itemsize
        step = img_msg.step or row
        if step < row or len(img_msg.data) < step * img_msg.height:
            raise CvBridgeError(
                f"image of {img_msg.width}x{img_msg.height} {img_msg.encoding}: step {img_msg.step} and"
                f" {len(img_msg.data)} bytes do not hold it ({row} bytes a row)"
            )
        shape = (img_msg.height, img_msg.width) + ((channels,) if channels > 1 else ())
        strides = (step, channels * kind.itemsize) + ((kind.itemsize,) if channels > 1 else ())
        image: Any = np.ndarray(shape, kind, buffer=memoryview(img_msg.data).cast("B"), strides=strides)
        if not kind.isnative:
            image = image.astype(kind.newbyteorder("="))
        return _convert(image, img_msg.encoding, desired_encoding)

    def cv2_to_imgmsg(self, cvim: Any, encoding: str = "passthrough", header: Any = None) -> Any:
        """The message of an array; the encoding says what the channels mean.

        Raises CvBridgeError when the array does not fit the encoding.
        """
        if not isinstance(cvim, np.ndarray) or cvim.ndim not in (2, 3):
            raise CvBridgeError("Your input type is not a numpy array")
        channels = 1 if cvim.ndim == 2 else cvim.shape[2]
        try:
            natural = encodings.opencv_name(cvim.dtype.name, channels)
        except KeyError:
            raise CvBridgeError(f"images of type {cvim.dtype.name} have no encoding") from None
        if encoding == "passthrough":
            encoding = natural
        elif _parse(encoding) != (cvim.dtype.name, channels):
            raise CvBridgeError(f"encoding specified as {encoding}, but image has incompatible type {natural}")
        message = Image(
            height=cvim.shape[0],
            width=cvim.shape[1],
            encoding=encoding,
            is_bigendian=int(sys.byteorder == "big"),
            step=cvim.shape[1] * channels * cvim.dtype.itemsize,
        )
        message.data.frombytes(np.ascontiguousarray(cvim).data.cast("B"))  # an assignment would copy once more
        if header is not None:
            message.header = header
        return message

    def compressed_imgmsg_to_cv2(self, cmprs_img_msg: Any, desired_encoding: str = "passthrough") -> Any:
        """The array of a compressed image: bgr8 or mono8 (16 bits kept), or converted.  CvBridgeError if it is none."""
        if not isinstance(cmprs_img_msg, CompressedImage):
            raise CvBridgeError(f"expected a sensor_msgs/CompressedImage, got {type(cmprs_img_msg).__name__}")
        image = _decompress(bytes(cmprs_img_msg.data))
        if desired_encoding == "passthrough":
            return image
        deep = image.dtype == np.uint16
        channels = 1 if image.ndim == 2 else image.shape[2]
        have = {1: "mono", 3: "bgr", 4: "bgra"}[channels] + ("16" if deep else "8")
        return _convert(image, have, desired_encoding)

    def cv2_to_compressed_imgmsg(self, cvim: Any, dst_format: str = "jpg") -> Any:
        """The compressed message of a mono or BGR(A) array."""
        if not isinstance(cvim, np.ndarray) or cvim.ndim not in (2, 3):
            raise CvBridgeError("Your input type is not a numpy array")
        message = CompressedImage(format=dst_format)
        message.data = array("B", _compress(cvim, dst_format))
        return message

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        """(NumPy type, channels) of an encoding."""
        return _parse(encoding)

    def encoding_to_cvtype2(self, encoding: str) -> int:
        """OpenCV's number of an encoding's type."""
        dtype, channels = _parse(encoding)
        depths = ["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"]
        return depths.index(dtype) + ((channels - 1) << 3)

    def dtype_with_channels_to_cvtype2(self, dtype: Any, n_channels: int) -> str:
        return encodings.opencv_name(np.dtype(dtype).name, n_channels)

    def cvtype2_to_dtype_with_channels(self, cvtype: int) -> tuple[str, int]:
        depths = ["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"]
        return depths[cvtype & 7], (cvtype >> 3) + 1


def _parse(encoding: str) -> tuple[str, int]:
    try:
        return encodings.parse(encoding)
    except KeyError:
        raise CvBridgeError(
            f"Unrecognized image encoding [{encoding}]; known: {', '.join(encodings.names())},"
            " and 8UC3, 32FC1 and the like"
        ) from None


def _convert(image: Any, have: str, want: str) -> Any:
    """Between colour orders, grey, alpha and 8/16 bits."""
    if want in ("passthrough", have) or not want:
        return image
    kind, channels = _parse(want)
    if want not in encodings.COLORS:
        # An OpenCV type says nothing about colours: the same numbers pass.
        if _parse(have) == (kind, channels):
            return image
        raise CvBridgeError(f"[{have}] is not convertible to [{want}]")
    if have not in encodings.COLORS:
        if _parse(have) == (kind, channels):
            return image  # 8UC3 read as bgr8: the caller knows what it is
        if have in encodings.BAYER or have in encodings.YUV:
            raise CvBridgeError(f"[{have}] is not convertible to [{want}] here; use image_proc for it")
        raise CvBridgeError(f"[{have}] is not a color format. but [{want}] is. The conversion does not make sense")
    rgb = _to_rgb(image, have)
    target = np.dtype(kind)
    if rgb.dtype != target:
        # As OpenCV scales: 255 ↔ 65535, rounded to nearest.
        rgb = rgb.astype(np.uint16) * 257 if target == np.uint16 else np.rint(rgb / 257.0).astype(np.uint8)
    name = want.rstrip("0123456789")
    if name == "mono":
        if rgb.ndim == 2:
            return rgb
        weights = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as OpenCV's COLOR_RGB2GRAY
        return np.rint(rgb[..., :3] @ weights).astype(target)
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[..., None], 3, axis=2)  # (H, W, 3)
    if name.endswith("a") and rgb.shape[2] == 3:
        rgb = np.concatenate([rgb, np.full((*rgb.shape[:2], 1), np.iinfo(target).max, target)], axis=2)  # (H, W, 4)
    elif not name.endswith("a"):
        rgb = rgb[..., :3]  # (H, W, 3)
    return _swap(rgb) if name.startswith("bgr") else np.ascontiguousarray(rgb)


def _to_rgb(image: Any, have: str) -> Any:
    return _swap(image) if have.startswith("bgr") else image


def _swap(image: Any) -> Any:
    """RGB(A) ↔ BGR(A)."""
    return np.ascontiguousarray(image[..., [2, 1, 0] + ([3] if image.shape[2] == 4 else [])])


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def _pillow() -> Any:
    try:
        import PIL.Image
    except ImportError:
        raise CvBridgeError("compressed images need Pillow (pip install pillow) or OpenCV") from None
    return PIL.Image


def _decompress(data: bytes) -> Any:
    cv2 = _opencv()
    if cv2 is not None:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
        if image is None:
            raise CvBridgeError("the compressed image cannot be decoded")
        return image
    pillow = _pillow()
    try:
        with pillow.open(io.BytesIO(data)) as opened:
            if opened.mode.startswith("I"):
                return np.array(opened).astype(np.uint16)
            if opened.mode not in ("L", "RGB"):
                opened = opened.convert("RGB")
            image = np.array(opened)
    except (OSError, ValueError) as error:
        raise CvBridgeError(f"the compressed image cannot be decoded: {error}") from None
    return image if image.ndim == 2 else _swap(image)


def _compress(image: Any, name: str) -> bytes:
    kind = _FORMATS.get(name.lower().lstrip("."))
    if kind is None:
        raise CvBridgeError(f"unknown image format '{name}'; choose from {', '.join(_FORMATS)}")
    cv2 = _opencv()
    if cv2 is not None:
        done, buffer = cv2.imencode(f".{name}", image)
        if not done:
            raise CvBridgeError(f"OpenCV cannot write this image as {name}")
        return bytes(buffer.tobytes())
    array_ = image if image.ndim == 2 else _swap(image)
    if kind == "JPEG" and array_.ndim == 3:
        array_ = np.ascontiguousarray(array_[..., :3])
    stream = io.BytesIO()
    options = {"quality": 95} if kind == "JPEG" else {}  # OpenCV's default quality
    try:
        _pillow().fromarray(array_).save(stream, kind, **options)
    except (TypeError, OSError, ValueError) as error:
        raise CvBridgeError(f"this image cannot be written as {name}: {error}") from None
    return stream.getvalue()
