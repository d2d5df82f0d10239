"""The verify flow: proves a root from its files, for a weekly deployment."""

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.attempts import final
from storage.errors import ConfigurationError
from storage.verify import Breach, Verdict
from storage.verify import verify as prove


class RootBreached(Exception):
    """The root is not what it says of itself; `breaches` tells all that was found."""

    def __init__(self, breaches: list[Breach]) -> None:
        super().__init__(f"{len(breaches)} breaches, the first: {breaches[0].sentence}")
        self.breaches = breaches


@flow(name="verify", retries=1, retry_delay_seconds=60)
def verify(root: str) -> State[dict[str, int]]:
    """Completed if every file under `root` is as the root says; raises RootBreached if not."""
    with final(ConfigurationError, RootBreached):
        verdict = proved(root)
    message = f"{verdict.files} files and {verdict.rows} rows looked at: nothing is wrong"
    return Completed(message=message, data={"files": verdict.files, "rows": verdict.rows})


def proved(root: str) -> Verdict:
    """The verdict on a root that is as it says; raises RootBreached, after telling all, if not."""
    verdict = prove(root)
    log = get_run_logger()
    for work in verdict.unfinished:
        log.info("unfinished: %s", work)
    for one in verdict.breaches:
        log.error("breach: %s", one.sentence)
    table = [{"url": one.url, "what": one.what, "mend": one.mend} for one in verdict.breaches]
    create_table_artifact(table=table, key="nightcap-breaches", description=root)
    if verdict.breaches:
        raise RootBreached(verdict.breaches)
    return verdict
