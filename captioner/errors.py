"""What can go wrong between a picture and its caption, each in one sentence for its reader."""


class CaptionerError(Exception):
    """Anything the captioner raises on purpose."""


class ModelError(CaptionerError, ValueError):
    """A model, encoder, recipe or setting that cannot be used: mend the configuration."""


class PictureError(CaptionerError, ValueError):
    """One picture that cannot be captioned: `code` is from the closed list, `detail` is clean."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
