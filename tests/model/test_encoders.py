"""The frozen encoders: states against stock transformers code, no trace of padding, and every form of checkpoint.

Throughout, what lies behind a row's own length is noise.
"""

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from conftest import audio_encoder_config, real_path, text_encoder_config, tiny_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    PreTrainedModel,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from modeling_mmer import MMERConfig
from modeling_mmer.model.encoders import MMERWhisperEncoder, encoder_class, text_positions

WAVEFORM_KINDS = [f"{name}-{norm}" for name in ("hubert", "wavlm", "wav2vec2") for norm in ("group", "layer")]
WINDOW = 100  # frames of the tiny Whisper: twice its 50 source positions


def over(encoder: PreTrainedModel, modality: str, **options):
    """A model's frozen encoder of a modality, around `encoder`."""
    names = {"audio_encoder_name_or_path": "none", "text_encoder_name_or_path": "none"}
    config = MMERConfig(**{f"{modality}_config": copy.deepcopy(encoder.config), **names, **options})
    frozen = encoder_class(config, modality)(config, modality)
    frozen.encoder = encoder
    return frozen


def audio_states(encoder, audio, mask, context):
    frozen = over(encoder, "audio", audio_context=context)
    return frozen(dict(zip(frozen.inputs, (audio, mask), strict=True)))


def text_states(encoder, input_ids, mask):
    return over(encoder, "text")({"input_ids": input_ids, "attention_mask": mask})


def load_audio_encoder(folder, **options):
    config = MMERConfig(audio_config=AutoConfig.from_pretrained(folder))
    return encoder_class(config, "audio").fetch(str(folder), **options)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prefix_mask(lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def randomize(module, seed=0):
    """Weights of a size that matters: with the small ones of initialisation, padding that leaks would hardly show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            size = 0.3 if parameter.dim() == 1 else parameter[0].numel() ** -0.5
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def stock_states(encoder, inputs, **kwargs):
    """The states (B, L+1, T, D) as a user of transformers gets them."""
    with torch.no_grad():
        return torch.stack(encoder(inputs, output_hidden_states=True, **kwargs).hidden_states, dim=1)


def assert_close(actual, expected, atol=1e-5):
    torch.testing.assert_close(actual, expected, atol=atol, rtol=1e-5)


# ── Whisper ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def stock_whisper():
    return randomize(WhisperEncoder(audio_encoder_config("whisper")))


@pytest.fixture(scope="module")
def whisper(stock_whisper):
    encoder = MMERWhisperEncoder(audio_encoder_config("whisper"))
    encoder.load_state_dict(stock_whisper.state_dict())
    return encoder.eval()


def short_whisper_states(encoder, features):
    """Stock Whisper's layers run by hand over features (1, mels, any length) without a mask: what a clip gets alone."""
    with torch.no_grad():
        hidden = nn.functional.gelu(encoder.conv1(features))
        hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        states = [hidden + encoder.embed_positions.weight[: hidden.shape[1]]]
        for layer in encoder.layers:
            states.append(layer(states[-1], None))
        states[-1] = encoder.layer_norm(states[-1])
    return torch.stack(states, dim=1)


def filled_window(features):
    """Features (mels, T) continued by hand to the tiny window: Whisper's floor, 8 decades below the loudest bin."""
    features = features.numpy()
    floor = max(features.max() - 8 / 4, (-10 + 4) / 4)
    window = np.full((features.shape[0], WINDOW), floor, dtype=np.float32)
    window[:, : features.shape[1]] = features
    return torch.from_numpy(window)[None]


def test_whisper_at_the_full_window_is_stock_whisper(whisper, stock_whisper):
    features = noise(3, 8, WINDOW)
    with torch.no_grad():
        ours = whisper(features, output_hidden_states=True)
        stock = stock_whisper(features, output_hidden_states=True)
    assert_close(ours.last_hidden_state, stock.last_hidden_state)
    assert len(ours.hidden_states) == len(stock.hidden_states) == 3
    assert_close(ours.hidden_states, stock.hidden_states)


def test_whisper_with_a_mask_of_ones_at_the_full_window_is_stock_whisper(whisper, stock_whisper):
    features = noise(2, 8, WINDOW)
    masked = stock_states(whisper, features, attention_mask=torch.ones(2, WINDOW))
    assert_close(masked, stock_states(stock_whisper, features), atol=1e-6)


LENGTHS = [40, 23, 100, 1, 61, 2, 99]  # odd and even, the whole window, a single frame


def test_trimmed_whisper_gives_each_row_what_the_clip_gets_alone(whisper, stock_whisper):
    features, mask = noise(len(LENGTHS), 8, WINDOW), prefix_mask(LENGTHS)
    states, states_mask = audio_states(whisper, features, mask, "trimmed")
    assert states_mask.dtype == torch.bool
    assert states_mask.sum(-1).tolist() == [-(-length // 2) for length in LENGTHS]
    for row, length in enumerate(LENGTHS):
        alone = short_whisper_states(stock_whisper, features[row : row + 1, :, :length])[0]
        assert alone.shape[1] == states_mask[row].sum()
        assert_close(states[row, :, states_mask[row]], alone)  # the last frame included


@contextmanager
def lengths_seen(layer):
    """The lengths of all the states (B, T, D) that enter a layer."""
    seen = []
    hook = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    yield seen
    hook.remove()


@pytest.mark.parametrize(("context", "frames"), [("trimmed", 40), ("full", WINDOW)])
def test_trimmed_clips_cost_what_the_longest_lasts(whisper, context, frames):
    with lengths_seen(whisper.layers[0]) as seen:
        audio_states(whisper, noise(2, 8, WINDOW), prefix_mask([40, 23, WINDOW])[:2], context)
    assert seen == [frames // 2]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float32, {1, 9, 17, 20, 22, 26, 30, 32, 34, 40, 50}),
        (torch.bfloat16, {1, 9, 18, 20, 22, 26, 30, 32, 36, 40, 50}),  # 50 is the window
    ],
)
def test_on_a_cpu_few_lengths_are_run_on(whisper, stock_whisper, dtype, expected, request):
    """Each length costs kernels. What is added to a clip is masked, and cut off again."""
    if dtype == torch.bfloat16:
        request.getfixturevalue("bfloat16_attention")
    encoder = copy.deepcopy(whisper).to(dtype)
    lengths = [1, 2, 17, 33, 34, 39, 40, 43, 51, 52, 59, 60, 63, 67, 68, 79, 99, 100]
    features, error = noise(1, 8, WINDOW), {torch.float32: 1e-5, torch.bfloat16: 0.02}[dtype]
    with lengths_seen(encoder.layers[0]) as seen:
        for length in lengths:
            states, mask = audio_states(encoder, features[..., :length], prefix_mask([length]), "trimmed")
            assert mask.all() and states.shape[2] == mask.shape[1] == -(-length // 2)
            alone = short_whisper_states(stock_whisper, features[..., :length])
            assert (states.float() - alone).norm() < error * alone.norm()
    assert len(seen) == len(lengths) and set(seen) == expected


def test_on_a_cpu_few_numbers_of_rows_are_run_on(whisper):
    rows = []
    hook = whisper.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    features, mask = noise(7, 8, 40), prefix_mask([40] * 7)
    together, _ = audio_states(whisper, features, mask, "trimmed")
    hook.remove()
    assert rows == [4, 2, 1]
    for row in range(7):
        alone, _ = audio_states(whisper, features[row : row + 1], mask[:1], "trimmed")
        assert_close(together[row : row + 1], alone)


@pytest.mark.parametrize("context", ["full", "trimmed"])
@pytest.mark.parametrize("length", [37, 38])
def test_what_lies_behind_the_mask_does_nothing_to_whisper(whisper, context, length):
    mask = prefix_mask([length, 60])
    features = noise(2, 8, 60)
    expected, expected_mask = audio_states(whisper, features, mask, context)
    for loudness in (0.0, 1e-3, 1e3):
        other = torch.where(mask[:, None], features, loudness * noise(2, 8, 60, seed=1))
        states, states_mask = audio_states(whisper, other, mask, context)
        assert torch.equal(states_mask, expected_mask)
        assert_close(states.transpose(1, 2)[states_mask], expected.transpose(1, 2)[states_mask])


def test_whisper_in_full_context_gives_each_row_what_its_own_window_gives(whisper, stock_whisper):
    features, mask = noise(len(LENGTHS), 8, WINDOW, seed=2), prefix_mask(LENGTHS)
    features = features - torch.arange(len(LENGTHS))[:, None, None]  # each row has its own floor
    states, states_mask = audio_states(whisper, features, mask, "full")
    assert states_mask.sum(-1).tolist() == [-(-length // 2) for length in LENGTHS]
    for row, length in enumerate(LENGTHS):
        window = filled_window(features[row, :, :length])
        alone = stock_states(stock_whisper, window)[0, :, : -(-length // 2)]
        assert_close(states[row, :, states_mask[row]], alone)


@pytest.mark.parametrize("clip", ["noise", "silence", "quiet"])
def test_full_context_fills_the_window_as_stock_features_do(whisper, stock_whisper, clip):
    """Where a clip ends in silence itself, nothing of it reaches behind its end, and the states are the stock ones."""
    extractor = WhisperFeatureExtractor(feature_size=8, chunk_length=1)  # windows of 100 frames, as the tiny encoder
    samples = {"noise": 0.3, "silence": 0.0, "quiet": 1e-6}[clip] * noise(5_000).numpy()
    samples[-250:] = 0.0
    features = torch.from_numpy(np.asarray(extractor(samples, sampling_rate=16_000)["input_features"]))
    assert features.shape[-1] == WINDOW
    frames = -(-len(samples) // 160)
    states, _ = audio_states(whisper, features[..., :frames], torch.ones(1, frames), "full")
    assert_close(states, stock_states(stock_whisper, features)[:, :, : -(-frames // 2)])


@pytest.mark.parametrize("context", ["full", "trimmed"])
def test_audio_beyond_the_window_is_refused(whisper, context):
    with pytest.raises(ValueError, match="window"):
        audio_states(whisper, noise(1, 8, WINDOW + 20), torch.ones(1, WINDOW + 20), context)


def test_whisper_reads_in_the_precision_of_its_weights(whisper):
    features = noise(1, 8, 30).double()
    for context in ("full", "trimmed"):
        assert audio_states(whisper, features, torch.ones(1, 30), context)[0].dtype == torch.float32


def test_real_whisper_gives_a_batch_what_stock_whisper_gives_each_clip():
    """Each row's states in `full` context are stock Whisper's states of the clip's own frames in its 30 s window.

    Equal to rounding for a clip that ends in silence, the first one here. The second ends loud: an STFT window is 2.5
    hops wide, so a clip's last sound shows in the two frames after it, which a batch of the clips' own frames does not
    hold, and which are filled with silence. Before the first layer that reaches the last step alone. Behind the layers
    it moves the states of this clip by 2 to 5 % (norm of the difference over norm of the states, each layer), the most
    of eight clips chosen for their loud ends; a clip cut in mid-word reaches 11 %.
    """
    soundfile = pytest.importorskip("soundfile")
    path = real_path("models", "whisper-tiny-en-encoder")
    clips = [real_path("data", "spoken", "audio", name) for name in ("test_03300.ogg", "test_03440.ogg")]
    extractor = WhisperFeatureExtractor.from_pretrained(path)
    encoder = load_audio_encoder(str(path))
    stock = WhisperForAudioClassification.from_pretrained(path, dtype=torch.float32).encoder.eval()
    samples = [soundfile.read(clip, dtype="float32")[0] for clip in clips]
    windows = [extractor(clip, sampling_rate=16_000, return_tensors="pt")["input_features"][0] for clip in samples]
    lengths = [-(-len(clip) // 160) for clip in samples]
    batch = noise(2, 80, max(lengths), seed=3)
    for row, length in enumerate(lengths):
        batch[row, :, :length] = windows[row][:, :length]
    states, mask = audio_states(encoder, batch, prefix_mask(lengths), "full")
    assert mask.sum(-1).tolist() == [-(-length // 2) for length in lengths]

    after = [(window[:, length:] - window.min()).max() for window, length in zip(windows, lengths, strict=True)]
    assert after[0] == 0 and after[1] > 0.5  # the clips are what the docstring says
    expected = stock_states(stock, torch.stack(windows))
    assert_close(states[0, :, mask[0]], expected[0, :, : mask[0].sum()], atol=1e-4)

    ours, theirs = states[1, :, mask[1]], expected[1, :, : mask[1].sum()]
    untouched = (lengths[1] - 1) // 2  # steps whose convolutions end before the first frame after the clip
    assert_close(ours[0, :untouched], theirs[0, :untouched], atol=1e-4)
    assert ((ours - theirs).norm(dim=(1, 2)) / theirs.norm(dim=(1, 2))).max() < 0.06


# ── raw-waveform encoders ───────────────────────────────────────────────────────────────────────────────────────────

SAMPLES = [400, 231, 613, 45, 231, 612]  # 45: a single frame; two rows are of one length


def waveform_frames(samples):
    """Frames of the tiny convolutions: kernel 10, stride 5, then kernel 8, stride 4."""
    return ((samples - 10) // 5 + 1 - 8) // 4 + 1


@pytest.fixture(scope="module", params=WAVEFORM_KINDS)
def waveform_encoder(request):
    return randomize(AutoModel.from_config(audio_encoder_config(request.param)))


def test_waveform_encoders_give_each_row_what_stock_code_gives_the_clip_alone(waveform_encoder):
    batch, mask = noise(len(SAMPLES), max(SAMPLES), seed=4), prefix_mask(SAMPLES)
    states, states_mask = audio_states(waveform_encoder, batch, mask, "full")
    assert states_mask.dtype == torch.bool
    assert states_mask.sum(-1).tolist() == [waveform_frames(length) for length in SAMPLES]
    for row, length in enumerate(SAMPLES):
        alone = stock_states(waveform_encoder, batch[row : row + 1, :length])[0]
        assert_close(states[row, :, states_mask[row]], alone)  # the last frame included


def test_waveform_encoders_do_not_see_the_order_of_a_batch(waveform_encoder):
    batch, mask = noise(len(SAMPLES), max(SAMPLES), seed=5), prefix_mask(SAMPLES)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    states, states_mask = audio_states(waveform_encoder, batch, mask, "full")
    shuffled, shuffled_mask = audio_states(waveform_encoder, batch[order], mask[order], "full")
    assert torch.equal(shuffled_mask, states_mask[order])
    assert_close(shuffled.transpose(1, 2)[shuffled_mask], states[order].transpose(1, 2)[shuffled_mask])


def test_what_lies_behind_the_mask_does_nothing_to_waveform_encoders(waveform_encoder):
    batch, mask = noise(len(SAMPLES), max(SAMPLES), seed=6), prefix_mask(SAMPLES)
    states, states_mask = audio_states(waveform_encoder, batch, mask, "full")
    wider = torch.cat([torch.where(mask, batch, 100.0), torch.full((len(SAMPLES), 50), 7.0)], dim=1)
    wider_mask = torch.cat([mask, torch.zeros(len(SAMPLES), 50, dtype=torch.bool)], dim=1)
    others, others_mask = audio_states(waveform_encoder, wider, wider_mask.long(), "full")
    assert torch.equal(others_mask, states_mask)
    assert_close(others.transpose(1, 2)[others_mask], states.transpose(1, 2)[states_mask])


def test_a_clip_shorter_than_a_frame_is_refused(waveform_encoder):
    with pytest.raises(ValueError, match="44 samples"):
        audio_states(waveform_encoder, noise(2, 400), prefix_mask([400, 44]), "full")


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_in_bfloat16_on_a_cpu_texts_are_filled_to_no_more_than_the_encoder_reads(kind, bfloat16_attention):
    text_encoder = randomize(AutoModel.from_config(text_encoder_config(kind)))
    half = copy.deepcopy(text_encoder).bfloat16()
    longest = text_positions(half)
    for length, run_on in ((9, 9), (17, 18), (longest, longest)):
        ids = torch.arange(5, 5 + length)[None] % 30
        with lengths_seen(half.encoder.layer[0]) as seen:
            states, mask = text_states(half, ids, torch.ones(1, length, dtype=torch.long))
        assert seen == [run_on]
        alone = stock_states(text_encoder, ids)
        assert mask.all() and states.shape == alone.shape
        assert (states.float() - alone).norm() < 0.02 * alone.norm()


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_text_encoders_give_each_row_what_stock_code_gives_the_text_alone(kind):
    encoder = randomize(AutoModel.from_config(text_encoder_config(kind)))
    lengths = [5, 1, 9, 2]
    ids, mask = torch.randint(3, 50, (4, 12), generator=torch.Generator().manual_seed(7)), prefix_mask(lengths)
    mask = torch.cat([mask, torch.zeros(4, 3, dtype=torch.bool)], dim=1).long()  # wider than its longest row
    states, states_mask = text_states(encoder, ids, mask)
    assert states_mask.dtype == torch.bool and states_mask.sum(-1).tolist() == lengths
    for row, length in enumerate(lengths):
        alone = stock_states(encoder, ids[row : row + 1, :length])[0]
        assert_close(states[row, :, states_mask[row]], alone)


# ── masks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["whisper", "hubert-layer", "roberta"])
@pytest.mark.parametrize("mask", [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1]])
def test_a_mask_whose_padding_is_not_behind_is_refused(kind, mask):
    """Left-padded input would otherwise be cut at the wrong end."""
    mask = torch.tensor([[1, 1, 1, 1], mask]).repeat_interleave(10 if kind == "roberta" else 20, dim=1)  # (2, 40 or 80)
    with pytest.raises(ValueError, match="[Pp]adding"):
        if kind == "roberta":
            encoder = AutoModel.from_config(text_encoder_config(kind))
            text_states(encoder, torch.full(mask.shape, 5), mask)
        elif kind == "whisper":
            audio_states(MMERWhisperEncoder(audio_encoder_config(kind)), noise(2, 8, 80), mask, "trimmed")
        else:
            audio_states(AutoModel.from_config(audio_encoder_config(kind)), noise(2, 80), mask, "full")


# ── which states ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["whisper full", "whisper trimmed", *WAVEFORM_KINDS, "bert", "roberta"])
def test_states_are_the_embedding_output_and_every_layer(kind):
    kind, _, context = kind.partition(" ")
    if kind in ("bert", "roberta"):
        encoder = randomize(AutoModel.from_config(text_encoder_config(kind)))
        layers = encoder.encoder.layer
    elif kind == "whisper":
        encoder = randomize(MMERWhisperEncoder(audio_encoder_config(kind)))
        layers = encoder.layers
    else:
        encoder = randomize(AutoModel.from_config(audio_encoder_config(kind)))
        layers = encoder.encoder.layers
    seen = []  # what enters each layer, and what leaves the last
    first = lambda value: value[0] if isinstance(value, tuple) else value  # noqa: E731
    hooks = [layer.register_forward_pre_hook(lambda _, inputs: seen.append(first(inputs))) for layer in layers]
    hooks.append(layers[-1].register_forward_hook(lambda _, inputs, output: seen.append(first(output))))
    if kind in ("bert", "roberta"):
        states, _ = text_states(encoder, torch.randint(3, 50, (1, 7)), torch.ones(1, 7, dtype=torch.long))
    elif kind == "whisper":
        states, _ = audio_states(encoder, noise(1, 8, WINDOW), torch.ones(1, WINDOW), context)
    else:
        states, _ = audio_states(encoder, noise(1, 400), torch.ones(1, 400), "full")
    for hook in hooks:
        hook.remove()

    assert states.shape[1] == encoder.config.num_hidden_layers + 1 == len(seen)
    for index, entering in enumerate(seen[:-1]):
        assert torch.equal(states[:, index], entering)
    with torch.no_grad():  # transformers gives Whisper's last state behind the final norm, those of waveforms before it
        last = encoder.layer_norm(seen[-1]) if kind == "whisper" else seen[-1]
    assert_close(states[:, -1], last)
    assert not states.requires_grad


def test_first_states_are_what_embeds_the_input():
    text = randomize(AutoModel.from_config(text_encoder_config("roberta")))
    ids = torch.randint(3, 50, (1, 7), generator=torch.Generator().manual_seed(8))
    states, _ = text_states(text, ids, torch.ones_like(ids))
    table = text.embeddings
    with torch.no_grad():
        summed = (
            table.word_embeddings.weight[ids[0]]
            + table.position_embeddings.weight[torch.arange(7) + 2]  # RoBERTa counts from its pad id + 1
            + table.token_type_embeddings.weight[0]
        )
        assert_close(states[0, 0], table.LayerNorm(summed))


def test_asking_the_model_for_its_own_states_does_not_double_those_of_the_encoders():
    model = tiny_model()
    inputs = {
        "input_features": noise(2, 8, 30),
        "input_ids": torch.randint(3, 50, (2, 6), generator=torch.Generator().manual_seed(9)),
    }
    before = model.model.encoders(inputs)
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    after = model.model.encoders(inputs)
    assert len(outputs.hidden_states) == 3
    assert [before[m][0].shape[1] for m in ("audio", "text")] == [3, 4]
    for modality in ("audio", "text"):
        assert_close(before[modality][0], after[modality][0])
