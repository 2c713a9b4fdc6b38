"""Flow `work`: joins a run of a recipe; any number may, on any machine that sees the store."""

from prefect import flow

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, refer, run_name
from schemas.ref import ArtifactRef


@flow(name="work", flow_run_name=run_name, persist_result=False)
def work(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Take shards of a recipe's steps, beside whoever works on them too, until all are sealed."""
    return Job.of(recipe, overrides, store).make()


if __name__ == "__main__":
    refer("work")
