"""Seeds of tests that play dice: other ones every day, the same ones again with LIGHTGEN_SEED."""

import os
from datetime import date

SEEDS = 1500  # all there are
A_RUN = 100


def first_seed():
    """LIGHTGEN_SEED where it is set, else the first of today's hundred."""
    given = os.environ.get("LIGHTGEN_SEED")
    return int(given) if given is not None else date.today().toordinal() * A_RUN % SEEDS


def todays_seeds():
    """A hundred, in rotation, so that fifteen days meet all of them."""
    return [(first_seed() + one) % SEEDS for one in range(A_RUN)]
