"""Commands that draw with a student."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from lightgen.cli.console import DeviceOption, RefArgument, StoreOption, out
from lightgen.errors import ConfigError, InputCorrupt
from lightgen.settings import Device, pick_device
from lightgen.storage.store import open_store

if TYPE_CHECKING:
    import numpy as np

    from lightgen.generators.sampler import Sampler
    from lightgen.model.sampling import SampleConfig

app = typer.Typer()


@app.command()
def generate(
    checkpoint: RefArgument,
    captions: Annotated[list[str], typer.Argument(help="what to draw")],
    store: StoreOption,
    to: Annotated[Path, typer.Option("--to", help="PNG to write")] = Path("generated.png"),
    samples: Annotated[int, typer.Option(min=1, max=64, help="images of each caption")] = 4,
    seed: Annotated[int, typer.Option(help="of the first image")] = 0,
    scale: Annotated[int, typer.Option(min=1, max=16, help="enlarge the pixels by this factor")] = 4,
    guidance: Annotated[float | None, typer.Option(help="strength of the caption; 1 is none")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="px; by default the size trained on")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="px")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw captions with a student: one row of pictures for each caption."""
    from lightgen.generators.sampler import contact_sheet

    sampler, config = _sampler(checkpoint, store, device)
    if guidance is not None:
        config = config.model_copy(update={"guidance": guidance})
    seeds = [seed + sample for _ in captions for sample in range(samples)]
    wanted = [caption for caption in captions for _ in range(samples)]
    images = sampler.images(wanted, seeds, config, height, width)
    to.write_bytes(contact_sheet(images, samples, scale * images.shape[1]))
    size = f"{images.shape[2]} x {images.shape[1]}"
    out.print(f"wrote {escape(str(to))}: {len(captions)} x {samples} images of {size} px")


def _sampler(checkpoint: str, store: str, device: Device) -> "tuple[Sampler, SampleConfig]":
    """What draws with a checkpoint, and how it was told to draw when it was trained."""
    from lightgen.generators.sampler import Sampler
    from lightgen.model.sampling import SampleConfig

    opened = open_store(store)
    version = opened.open(checkpoint)
    if version.ref.kind != "checkpoint":
        raise ConfigError(f"{checkpoint} is of kind {version.ref.kind}; give a checkpoint")
    config = SampleConfig.model_validate_json(version.file("sampling.json").read_bytes())
    return Sampler.from_checkpoint(version, opened, _present(device)), config


def _present(device: Device) -> str:
    """The device of this machine. Raises ConfigError for a GPU that is not there."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no GPU here; take auto or cpu")
    return pick_device(device)


@app.command("inpaint")
def inpaint_picture(
    checkpoint: RefArgument,
    image: Annotated[Path, typer.Argument(help="picture to change", exists=True, dir_okay=False)],
    mask: Annotated[Path, typer.Argument(help="picture of its size; what is white is drawn again", exists=True)],
    caption: Annotated[str, typer.Argument(help="what the whole picture shows")],
    store: StoreOption,
    to: Annotated[Path, typer.Option("--to", help="PNG to write")] = Path("inpainted.png"),
    samples: Annotated[int, typer.Option(min=1, max=64)] = 4,
    seed: Annotated[int, typer.Option(help="of the first image")] = 0,
    device: DeviceOption = "auto",
) -> None:
    """Draw the masked part of a picture again; every other pixel stays as it is."""
    from lightgen.generators.inpainting import inpaint
    from lightgen.generators.sampler import contact_sheet

    sampler, config = _sampler(checkpoint, store, device)
    pixels, white = _pixels(image), _pixels(mask).mean(axis=2) >= 128
    drawn = inpaint(sampler, pixels, white, [caption] * samples, list(range(seed, seed + samples)), config)
    to.write_bytes(contact_sheet(drawn, samples))
    out.print(f"wrote {escape(str(to))}: {samples} pictures, {white.mean():.0%} of each drawn again")


def _pixels(path: Path) -> "np.ndarray":
    """The picture in a file as uint8 [h, w, 3]."""
    from lightgen.storage.pixels import BadImage, decode_image

    found = decode_image(path.read_bytes())
    if isinstance(found, BadImage):
        raise InputCorrupt(f"{path}: {found.reason} ({found.detail})")
    return found
