"""What the pipelines are made of, each saved and loaded as diffusers does it: student, scheduler, VAE of patches."""

from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lightgen.encoders.patch_pca import PatchPca
from lightgen.model.config import StudentConfig
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student


class StudentModel(ModelMixin, ConfigMixin):
    """A student, the side of the images that it was trained on, and the text encoder that it reads.

    `sizes` is a `StudentConfig`, `text` the settings of a text encoder (`lightgen.encoders.text`); both as JSON.
    """

    @register_to_config
    def __init__(self, sizes: dict[str, Any], sample_size: int, text: dict[str, Any]) -> None:
        super().__init__()
        self.net = Student(StudentConfig.model_validate(sizes))

    @classmethod
    def of(cls, student: Student, size_px: int, text: dict[str, Any]) -> "StudentModel":
        """The component of a trained student; it shares the weights."""
        with torch.device("meta"):
            made = cls(sizes=student.config.model_dump(mode="json"), sample_size=size_px, text=text)
        made.net = student
        return made.eval()

    @apply_forward_hook
    def ready(self) -> Student:
        """The student where it works: offloading, as diffusers does it, brings it there now."""
        return self.net.eval()


class DecodingScheduler(SchedulerMixin, ConfigMixin):
    """In which order and in how many steps tokens are drawn; `sample` is a `SampleConfig` as JSON."""

    @register_to_config
    def __init__(self, sample: dict[str, Any] | None = None) -> None:
        self.sample = SampleConfig.model_validate(sample or {})

    @classmethod
    def of(cls, sample: SampleConfig) -> "DecodingScheduler":
        """The component of these settings."""
        return cls(sample=sample.model_dump(mode="json", exclude={"batch_size"}))


class PatchPcaModel(ModelMixin, ConfigMixin):
    """`lightgen.encoders.patch_pca` with the calls of an AutoencoderKL: pixels in [-1, 1] to latents and back.

    It computes in float32 whatever the type of its weights: they are few.
    """

    @register_to_config
    def __init__(self, patch_px: int, latent_channels: int, scaling_factor: float = 1.0) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.empty(3 * patch_px**2))
        self.basis = nn.Parameter(torch.empty(3 * patch_px**2, latent_channels))
        self.scale = nn.Parameter(torch.empty(latent_channels))
        self.patch_px = patch_px

    @classmethod
    def of(cls, vae: PatchPca) -> "PatchPcaModel":
        """The component of a fitted autoencoder, rounded to float32."""
        made = cls(patch_px=vae.patch_px, latent_channels=vae.basis.shape[1])
        made.load_state_dict(vae.tensors())
        return cast(PatchPcaModel, made.eval())

    @apply_forward_hook
    def encode(
        self, pixels: Float[Tensor, "b 3 H W"], return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Latents; their distribution is a point, for the code is exact."""
        side = self.patch_px
        patches = rearrange(pixels.float(), "b c (h row) (w column) -> b h w (row column c)", row=side, column=side)
        latents = ((patches - self.mean.float()) @ self.basis.float() / self.scale.float()).movedim(-1, 1)
        moments = torch.cat([latents, torch.zeros_like(latents)], dim=1).to(pixels.dtype)
        point = DiagonalGaussianDistribution(moments, deterministic=True)
        return AutoencoderKLOutput(latent_dist=point) if return_dict else (point,)

    @apply_forward_hook
    def decode(
        self, latents: Float[Tensor, "b c h w"], return_dict: bool = True
    ) -> DecoderOutput | tuple[Float[Tensor, "b 3 H W"]]:
        """Pixels, not clamped."""
        patches = (latents.float().movedim(1, -1) * self.scale.float()) @ self.basis.float().T + self.mean.float()
        side = self.patch_px
        pixels = rearrange(patches, "b h w (row column c) -> b c (h row) (w column)", row=side, column=side, c=3)
        pixels = pixels.to(latents.dtype)
        return DecoderOutput(sample=pixels) if return_dict else (pixels,)


VaeModel = PatchPcaModel | AutoencoderKL


def works_on(model: ModelMixin) -> torch.device:
    """Where a component computes; one that is offloaded lies elsewhere until then."""
    return getattr(getattr(model, "_hf_hook", None), "execution_device", None) or model.device


def check_components(student: StudentModel | None, vae: VaeModel | None) -> None:
    """Raises ValueError for a pipeline that lacks one of them, and for a VAE of other latents than the student's."""
    if student is None or vae is None:
        raise ValueError("A student and a VAE are needed: one of `student` and `vae` is None.")
    drawn, read = student.net.config.latent_channels, cast(Any, vae.config).latent_channels
    if drawn != read:
        raise ValueError(f"The student draws latents of {drawn} channels, but `vae` reads {read}: take its own VAE.")


def reduction(vae: VaeModel) -> int:
    """Pixels a side that become one of a latent."""
    settings: Any = vae.config
    return settings.patch_px if "patch_px" in settings else 2 ** (len(settings.block_out_channels) - 1)
