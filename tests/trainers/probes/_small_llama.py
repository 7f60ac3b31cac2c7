"""A language model of a few numbers with a tokenizer, saved as Transformers saves them."""

from __future__ import annotations

from pathlib import Path

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

_WORDS = ("<s>", "</s>", "<pad>", "<unk>", *"abcdefghijklmnopqrstuvwxyz")


def save_small_llama(root: Path) -> None:
    """Write model, configuration and tokenizer into a directory."""
    words = Tokenizer(models.WordLevel({word: at for at, word in enumerate(_WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    tokenizer.save_pretrained(root)
    config = transformers.LlamaConfig(
        vocab_size=len(_WORDS),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(root)
