from lightgen.settings import numba_follows_openmp

numba_follows_openmp()
