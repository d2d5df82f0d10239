"""How large a picture may be, judged from numbers alone, before anything is allocated."""

from dataclasses import dataclass

from captioner.errors import PictureError


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureLimits:
    """What one picture may ask of this machine."""

    max_pixels: int = 178_000_000
    """Width times height. A pixel takes 4 bytes, two or three times over while it is decoded:
    lower this on a small machine. Above 178,956,970 Pillow's limit stops GIF, TIFF and WebP."""
    max_bytes: int = 200_000_000
    """Size of the file."""
    max_aspect: float = 20.0
    """Long side by short side. A 1x20000 strip asks for gigabytes once its short side is
    enlarged to what an encoder wants."""

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, got {self.max_pixels}")
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {self.max_bytes}")
        if not self.max_aspect >= 1:
            raise ValueError(f"max_aspect must be at least 1, got {self.max_aspect}")

    def check_bytes(self, n_bytes: int) -> None:
        """Raise `empty` or `too_large` for a file of this size."""
        if n_bytes == 0:
            raise PictureError("empty", "the file has no bytes")
        if n_bytes > self.max_bytes:
            raise PictureError("too_large", f"{n_bytes} bytes, allowed are {self.max_bytes}")

    def check_size(self, width: int, height: int) -> None:
        """Raise `corrupt`, `too_large` or `bad_aspect` for a picture of this size in pixels."""
        if width < 1 or height < 1:
            raise PictureError("corrupt", f"the header says {width}x{height} pixels")
        if width * height > self.max_pixels:
            pixels = f"{width}x{height} is {width * height} pixels"
            raise PictureError("too_large", f"{pixels}, allowed are {self.max_pixels}")
        if max(width, height) > self.max_aspect * min(width, height):
            shape = f"{width}x{height} is longer than {self.max_aspect:g} to 1"
            raise PictureError("bad_aspect", shape)


DEFAULT_LIMITS = PictureLimits()
