"""Writes two tiny, randomly initialised encoder checkpoints for the demo corpus:

    OUT/whisper/   WhisperModel (2 encoder layers, width 64) with its feature extractor
    OUT/roberta/   RobertaModel (2 layers, width 64) with the demo corpus's tokenizer

Nothing is downloaded, and they are used by path like any other encoder. Their outputs are a fixed random function of
the input, so use pretrained encoders for anything but trying things out.

    python scripts/make_demo_encoders.py runs/demo_encoders
"""

import sys
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    RobertaConfig,
    RobertaModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

SEED = 7
TOKENIZER = Path(__file__).parents[1] / "modeling_mmer" / "corpora" / "demo_data" / "tokenizer"


def make_whisper(folder: Path) -> None:
    torch.manual_seed(SEED)
    config = WhisperConfig(
        d_model=64,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_layers=1,  # never run; a Whisper checkpoint has one
        decoder_attention_heads=1,
        decoder_ffn_dim=16,
        vocab_size=8,
        max_target_positions=8,
        num_mel_bins=80,
        max_source_positions=1500,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        begin_suppress_tokens=None,
    )
    WhisperModel(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)


def make_roberta(folder: Path) -> None:
    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=tokenizer.model_max_length + 2,  # RoBERTa counts positions from pad_token_id + 1
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    RobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(output: Path) -> None:
    make_whisper(output / "whisper")
    make_roberta(output / "roberta")
    print(f"Encoders written to {output / 'whisper'} and {output / 'roberta'}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} OUTPUT_FOLDER")
    main(Path(sys.argv[1]))
