from lightgen.settings import numba_follows_torch

numba_follows_torch()
