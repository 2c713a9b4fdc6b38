"""Pipelines of diffusers that draw with a student: `LightGenPipeline`, and `LightGenInpaintPipeline`.

Importing this imports diffusers, so nothing else in lightgen does so but the commands that write such a folder.
"""

from lightgen.pipeline.inpaint import LightGenInpaintPipeline
from lightgen.pipeline.text_to_image import LightGenPipeline

__all__ = ["LightGenInpaintPipeline", "LightGenPipeline"]
