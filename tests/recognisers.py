"""A speech recogniser with random weights."""

from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AddedToken,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)


def make_whisper(folder: Path) -> Path:
    """A random Whisper whose letters differ from recording to recording; its tokenizer knows bytes only."""
    special = ["endoftext", "startoftranscript", "en", "translate", "transcribe", "startoflm", "startofprev"]
    special = [f"<|{name}|>" for name in (*special, "nospeech", "notimestamps")]
    alphabet = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = WhisperTokenizer(vocab=alphabet, merges=[], pad_token=special[0])
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.add_tokens([AddedToken(f"<|{0.02 * i:.2f}|>", special=False) for i in range(1501)])
    token = dict(zip(special, tokenizer.convert_tokens_to_ids(special), strict=True))
    end, start = token["<|endoftext|>"], token["<|startoftranscript|>"]
    named = {"pad_token_id": end, "bos_token_id": end, "eos_token_id": end, "decoder_start_token_id": start}
    layers = {f"{part}_{of}": n for part in ("encoder", "decoder") for of, n in (("layers", 1), ("ffn_dim", 32))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"vocab_size": len(tokenizer), "d_model": 16, "num_mel_bins": 8, "max_target_positions": 64}
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(WhisperConfig(**sizes, **layers, **heads, **named))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "positions" not in name:
                weight.copy_(torch.randn_like(weight) / weight[0].numel() ** 0.5)
            if "encoder_attn.out_proj.weight" in name or "encoder_attn.v_proj.weight" in name:
                weight.mul_(6)
        model.model.decoder.embed_tokens.weight[: len(alphabet)] *= 3
        model.model.decoder.embed_tokens.weight[len(alphabet) :] *= 0.1
    model.generation_config = GenerationConfig(
        max_length=16,
        num_beams=1,
        no_repeat_ngram_size=1,
        **named,
        no_timestamps_token_id=token["<|notimestamps|>"],
        prev_sot_token_id=token["<|startofprev|>"],
        max_initial_timestamp_index=50,
        is_multilingual=False,
        return_timestamps=False,
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=8), tokenizer).save_pretrained(folder)
    return folder
