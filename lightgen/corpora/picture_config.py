"""The closed family of sets of pictures; a new one is one file beside this and one line in the union."""

from typing import Annotated

from pydantic import Field

from lightgen.corpora.picture_folder import PictureFolder
from lightgen.corpora.picture_tables import PictureTables
from lightgen.corpora.picture_tars import PictureTars

PictureSetConfig = Annotated[PictureFolder | PictureTars | PictureTables, Field(discriminator="kind")]
