"""Flow `retrain`, on a schedule: train again when there are captions that no student has seen, else do nothing."""

from prefect import flow
from prefect.states import Completed, State

from flows.build_distill_set import distill_set
from flows.parameters import Job, Overrides, RecipeName, StoreAddress, run_name
from flows.train_student import student
from lightgen.stages.pages.lineage import ancestors
from lightgen.storage.store import Store, open_store
from schemas.ref import ArtifactRef
from tasks.source import source


def trained_on(store: Store) -> set[str]:
    """Fingerprints of the captions that the newest student comes from; empty where there is no student."""
    published = store.log("checkpoint")
    if not published:
        return set()
    newest = store.open(f"checkpoint@{published[-1].version}")
    return {version.ref.fingerprint for version in ancestors([newest.ref], store) if version.ref.kind == "captions"}


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> State | dict[str, ArtifactRef]:
    """Read the captions of a recipe; train only if they are new."""
    job = Job.of(recipe, overrides, store)
    captions = source(job.recipe.source, **job.common)
    if captions.fingerprint in trained_on(open_store(job.store)):
        return Completed(message=f"nothing new: the newest student was made from {captions}")
    return {"checkpoint": student(job, distill_set(job))}
