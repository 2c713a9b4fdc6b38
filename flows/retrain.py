"""Flow `retrain`, on a schedule: train again when there are captions that no student has seen, else do nothing."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.build_distill_set import distill_set
from flows.parameters import Job, Overrides, RecipeName, StoreAddress, run_name
from flows.train_student import students
from lightgen.operations.lineage import ancestors
from lightgen.storage.refs import retired, standing
from lightgen.storage.store import Store, open_store
from schemas.ref import ArtifactRef
from tasks.source import source


def trained_on(store: Store) -> set[str]:
    """Fingerprints of all captions that a student of the store comes from."""
    log = store.log("checkpoint")
    students = sorted(standing(log).keys() - retired(log))
    refs = [store.open(f"checkpoint@{version}").ref for version in students]
    return {version.ref.fingerprint for version in ancestors(refs, store) if version.ref.kind == "captions"}


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> State | dict[str, ArtifactRef]:
    """Read the captions of a recipe; train only if they are new."""
    job = Job.of(recipe, overrides, store)
    captions = source(job.recipe.source, **job.common)
    if captions.fingerprint in trained_on(open_store(job.store)):
        return Completed(message=f"nothing new: a student has been trained on {captions} already")
    return {"checkpoint": students(job, distill_set(job))[-1]}
