"""`nano`, the embedded default: a small encoder and captioner that know only drawn scenes."""

from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ENCODER: Final = HERE / "encoder"
"""The packaged encoder's directory."""
CAPTIONER: Final = HERE / "captioner"
"""The packaged captioner's directory."""
