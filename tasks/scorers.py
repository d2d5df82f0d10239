"""The encoder that scored a run, loaded again and proved to be the same."""

from captioner.configs import Form
from captioner.devices import Numerics, use_threads
from captioner.encoders import Encoder, encoder_digest, load_encoder
from storage.errors import ConfigurationError
from storage.layout import Root
from storage.reading import is_stored, run_space, scoring_space
from storage.settled import Settled
from tasks.settings.common import space_form


def scored_in(root: Root, run: Settled) -> Settled:
    """The space that the run was scored in; ConfigurationError if it has no scores."""
    if not run.resolved["scorer"]:
        raise ConfigurationError(
            f"run {run.name!r} has no scores: caption with --score into another run"
        )
    space = run_space(root, run)
    scored = space and scoring_space(root, space)
    if scored is None:
        raise ConfigurationError(f"the embeddings that run {run.name!r} was made from are gone")
    return scored


def scorer_of(run: Settled, scored: Settled, folder: str = "") -> Encoder:
    """The encoder, from `folder` if it is a local one; ConfigurationError if it is another."""
    source = folder or str(run.resolved["scorer"])
    known = scored.resolved.get("weights")
    if known and encoder_digest(source) != known:
        raise ConfigurationError(
            f"{source!r} is not the encoder that scored run {run.name!r} "
            f"({run.resolved['scorer']}): give its folder with --encoder"
        )
    form = Form() if is_stored(scored) else space_form(scored)
    return _encoder(source, form, run)


def pictures_encoder(run: Settled, scored: Settled, folder: str = "") -> Encoder:
    """The same encoder as it read the pictures: in the numerics of `scored`, not of the run."""
    source = folder or str(run.resolved["scorer"])
    return _encoder(source, space_form(scored), scored)


def _encoder(source: str, form: Form, settled: Settled) -> Encoder:
    numerics = Numerics(**settled.resolved["numerics"])
    use_threads(numerics.threads)
    return load_encoder(source, form, device=numerics.device, dtype=numerics.dtype)
