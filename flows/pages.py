"""What is left beside a run for people where a command or a flow ends: its summary and its page."""

from flows.summary import Summary
from storage.report import has_report, keep_summary, report_url


def add_summary(summary: Summary) -> bool:
    """Keep the summary as summary.json of its run if anything was done; whether it was."""
    did = any(stage.rows or stage.failed_shards for stage in summary.stages)
    if summary.run and did:
        body = summary.to_json()
        for place in ("root", "outputs"):  # a root that is moved or published takes its files along
            del body[place]
        keep_summary(summary.root, summary.run, body)
    return did


def add_report(summary: Summary) -> None:
    """Name the page of the summary's run, written anew if anything was done or there is none."""
    root, run = summary.root, summary.run
    if not run:
        return
    if add_summary(summary) or not has_report(root, run):
        from tasks.reporting import write_report  # noqa: PLC0415 - a finished root needs no PIL

        write_report(root, run)
    summary.facts["report"] = report_url(root, run)
