"""A training's losses as a picture."""

from io import BytesIO

from captioner.training_report import TrainingResult


def loss_curve(result: TrainingResult) -> bytes:
    """A PNG of train and held-out loss over the steps; the kept step is marked.

    The same result gives the same bytes: no clock and no version is written into it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    steps = [step for step, _, _ in result.curve]
    axes.plot(steps, [loss for _, loss, _ in result.curve], marker="o", label="train")
    held_out = [(step, loss) for step, _, loss in result.curve if loss is not None]
    if held_out:
        axes.plot(*zip(*held_out, strict=True), marker="s", linestyle="--", label="held out")
    axes.axvline(result.kept_step, color="grey", linewidth=0.8, label=f"kept: {result.kept_step}")
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats a token")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    page = BytesIO()
    figure.savefig(page, format="png", dpi=120, metadata={"Software": None})
    return page.getvalue()
