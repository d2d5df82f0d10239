"""Which picture format some bytes are, by signature alone: a file's name is never asked."""

from importlib.util import find_spec

from captioner.errors import PictureError

ALLOWED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")

_BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}
_BRANDS = {  # of the ISO base media container that AVIF and HEIC share
    "AVIF": {b"avif", b"avis"},
    "HEIF": {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"},
    "JPEG XL": {b"jxl "},
    "JPEG 2000": {b"jp2 ", b"jpx ", b"jpm "},
    "Canon raw": {b"crx "},
}
_REFUSED = (  # real picture formats that are not on the list
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"8BPS", "Photoshop"),
    (b"gimp xcf", "GIMP"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x00\x02\x00", "CUR"),
    (b"icns", "ICNS"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x8aMNG\r\n", "MNG"),
    (b"\x8bJNG\r\n", "JNG"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"BPG\xfb", "BPG"),
    (b"FLIF", "FLIF"),
    (b"\x01\xda", "SGI"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"AT&TFORM", "DjVu"),
    (b"FUJIFILMCCD-RAW", "Fujifilm raw"),
    (b"SIMPLE  =", "FITS"),
    (b"/* XPM */", "XPM"),
)


def sniff(data: bytes) -> str:
    """Return the format, one of `ALLOWED`.

    Raises PictureError `unsupported_format` for a picture of a format that is not allowed (EPS
    would start Ghostscript, SVG would fetch and script) and `not_image` for everything else.
    """
    name = _allowed(data) or _container(data) or _refused(data)
    if name is None:
        raise PictureError("not_image", "no picture format has this signature")
    if name == "HEIF" and find_spec("pillow_heif") is None:
        raise PictureError("unsupported_format", "HEIC needs the extra `heif` (nightcap[heif])")
    if name not in ALLOWED:
        raise PictureError("unsupported_format", f"{name} is not among {', '.join(ALLOWED)}")
    return name


def _allowed(data: bytes) -> str | None:
    signatures = {
        "JPEG": data.startswith(b"\xff\xd8\xff"),
        "PNG": data.startswith(b"\x89PNG\r\n\x1a\n"),
        "WEBP": data.startswith(b"RIFF") and data[8:12] == b"WEBP",
        "GIF": data.startswith((b"GIF87a", b"GIF89a")),
        "BMP": data.startswith(b"BM")
        and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES,
        "TIFF": data.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")),
    }
    return next((name for name, is_one in signatures.items() if is_one), None)


def _container(data: bytes) -> str | None:
    """Read the brands of the `ftyp` box: the major one decides, then the compatible ones."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]
    if brands[0] in {b"mif1", b"msf1"}:  # any still picture: what it holds is said after it
        brands = [*brands[1:], brands[0]]
    known = {brand: name for name, some in _BRANDS.items() for brand in some}
    return next((known[brand] for brand in brands if brand in known), None)


def _refused(data: bytes) -> str | None:
    if data[40:44] == b" EMF":
        return "EMF"
    if data[:1] == b"P" and data[1:2] in b"1234567Ff" and data[2:3].isspace():
        return "PNM"
    if _is_svg(data):
        return "SVG"
    return next((name for magic, name in _REFUSED if data.startswith(magic)), None)


def _is_svg(data: bytes) -> bool:
    """Tell whether the first element of an XML text is `svg`; an SVG inside HTML is HTML."""
    text = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    elements = (tag for tag in text.split(b"<")[1:] if not tag.startswith((b"?", b"!")))
    return text.startswith(b"<") and next(elements, b"").startswith((b"svg", b"svg:svg"))
