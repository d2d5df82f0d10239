"""A second encoder that scores captions and chooses the best: which embeddings it needs.

A caption is written from one encoder's embedding. Scored by the same encoder it is graded by
what it was read from; another one sees the picture with eyes of its own.
"""

from captioner.encoders import check_encoder
from storage.errors import ConfigurationError
from storage.layout import Root
from storage.reading import beside
from storage.settled import Settled
from tasks.options import CaptionOptions, EmbedOptions
from tasks.settings.embed import find_embeddings


def rerank_embedding(options: CaptionOptions) -> EmbedOptions | None:
    """The embeddings that the re-ranking encoder needs; None where the model's own one scores."""
    if not options.rerank:
        return None
    if options.embeddings:
        raise ConfigurationError(
            f"--rerank {options.rerank} has to see the pictures, and stored embeddings come "
            "without: leave --embeddings or --rerank out"
        )
    if options.score is False:
        raise ConfigurationError("--rerank chooses by scores: leave --no-score out")
    check_encoder(options.rerank)
    return EmbedOptions(encoder=options.rerank, compute=options.compute)


def with_scorer(root: Root, options: CaptionOptions, space: Settled) -> Settled | None:
    """`space`, read beside the re-ranker's embeddings; None where those are not made."""
    wanted = rerank_embedding(options)
    scored = find_embeddings(root, wanted) if wanted else space
    return beside(space, scored) if wanted and scored else scored
