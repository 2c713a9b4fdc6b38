"""Networks and tokenizers out of folders of weights. What a folder lacks, the libraries make up: here it is refused.

On the device `meta` a network has the names and shapes of its weights and no numbers, so that hardly a byte of the
files is read: `plan` asks there what a stage would refuse hours later.
"""

from pathlib import Path
from typing import Any

from lightgen.errors import ModelError, ModelIncomplete

META = "meta"


def load_network(
    kind: Any, folder: Path, model: str, what: str, device: str = "cpu", spare: tuple[str, ...] = (), **settings: Any
) -> Any:
    """The network of `kind` in `folder` on `device`, for answers only; `what` says in a message what it should be.

    Weights whose names begin with one of `spare` may be missing: nobody asks for what they make. Raises ModelError.
    """
    settings |= {"device_map": META} if device == META else {}
    try:
        network, found = kind.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **settings
        )
    except library_errors() as error:
        raise ModelError(f"model {model}: not a usable {what}: {str(error)[:300]}; fetch {folder} again") from None
    # The libraries warn, and go on with random numbers. Buffers are computed, and what is tied is there once.
    weights = {name for name, _ in network.named_parameters()}
    missing = sorted(name for name in found["missing_keys"] if name in weights and not name.startswith(spare))
    if missing:
        raise ModelError(
            f"model {model}: not a usable {what}: {len(missing):,} weights of {type(network).__name__} are in none of "
            f"its files, the first {missing[0]}; fetch {folder} again, or take a model of that kind"
        )
    network = network.eval().requires_grad_(False)
    return network if device == META else network.to(device)


def library_errors() -> tuple[type[Exception], ...]:
    """What the libraries raise for files that are missing, damaged, or say what they should not."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    return (
        OSError,
        ValueError,
        RuntimeError,
        TypeError,
        LookupError,
        AttributeError,
        StrictDataclassError,
        SafetensorError,
    )


def load_tokenizer(folder: Path, model: str) -> Any:
    """The tokenizer of transformers in a local folder. Raises ModelError."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except library_errors() as error:
        raise ModelIncomplete(f"tokenizer {model}: cannot be used: {str(error)[:300]}") from None
    check_words(tokenizer, folder, model)
    return tokenizer


def check_words(tokenizer: Any, folder: Path | str, model: str) -> None:
    """Raises ModelError where a tokenizer knows no words: transformers makes such a one up where files are missing."""
    if len(tokenizer) <= len(tokenizer.all_special_ids) + 1:  # T5 has a token for a blank
        raise ModelIncomplete(
            f"tokenizer {model}: {folder} holds no words of a tokenizer, so every caption would be the same tokens; "
            "fetch tokenizer.json, or the files that its tokenizer is made of, beside it"
        )


def check_tokens(network: Any, tokenizer: Any, model: str) -> None:
    """Raises ModelError where a network has not a vector for each token of its tokenizer."""
    vectors = network.get_input_embeddings().num_embeddings
    if vectors < len(tokenizer):
        raise ModelError(
            f"model {model}: its tokenizer has {len(tokenizer):,} tokens and the network vectors for {vectors:,}: they "
            "are not of one model; put the tokenizer there that was published with the weights"
        )
