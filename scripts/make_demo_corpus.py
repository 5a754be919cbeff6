"""Creates the included demo corpus, `modeling_mmer/corpora/demo_data/`: sentences composed from the templates below,
spoken by espeak-ng as Ogg Opus files, `metadata.csv` and a small RoBERTa-style tokenizer.
Needs `espeak-ng` on the PATH.

How labels, words and voice depend on each other, for each utterance:

1. An emotion is drawn (each split balanced), then valence, arousal and dominance around its means, with noise.
2. The words follow the emotion and the valence (a strong or a mild opening), except in a PLAIN share of the emotional
   utterances: those have a neutral sentence, and only the voice shows the emotion.
3. The voice follows arousal (rate, volume), dominance (low pitch) and the emotion (pitch and its range), with noise,
   except in a FLAT share of the utterances: those have an average voice, and only the words show it.

So each modality is informative, and both together are better than either. Then the audio, text, emotion label or
dimensions of some rows are removed. Everything is drawn with one fixed seed; splits share no voice.

    python scripts/make_demo_corpus.py [OUTPUT_FOLDER]
"""

import csv
import io
import json
import random
import subprocess
import sys
from pathlib import Path

import soundfile
import soxr
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaTokenizer

SEED = 7
OUTPUT = Path(__file__).parents[1] / "modeling_mmer" / "corpora" / "demo_data"

ROWS = {"train": 208, "validation": 52, "test": 72}
VOICES = {
    "train": "m1 m3 m4 m7 Andy Marco Michael ed robert Denis f1 f2 f5 Annie linda steph".split(),
    "validation": "m2 Mario f3 belinda".split(),
    "test": "m8 Lee Hugo f4 Andrea Alicia".split(),
}
MEANS = {  # valence, arousal, dominance on the scale 1-7
    "neutral": (4.0, 3.6, 4.0),
    "happiness": (5.8, 5.2, 4.6),
    "sadness": (2.3, 2.3, 2.7),
    "anger": (2.2, 5.5, 5.6),
}
SPREAD = 0.5
PITCH_SHIFT = {"neutral": 0, "happiness": 30, "sadness": -6, "anger": -22}  # of espeak-ng's scale, 0-99
PITCH_RANGE = {"neutral": 90, "happiness": 190, "sadness": 45, "anger": 60}  # per cent of the default of the voice
PLAIN, FLAT = 0.26, 0.15  # never both in one utterance
NO_AUDIO, NO_TEXT, NO_EMOTION, NO_DIMENSIONS = 0.08, 0.08, 0.08, 0.08  # shares of each split

FIELDS = "utterance_id audio text emotion valence arousal dominance speaker split".split()
SAMPLE_RATE = 16000
OPUS_COMPRESSION = 0.995  # libsndfile's scale from 0 (256 kbit/s) to 1 (6 kbit/s)

OPENINGS = {  # emotion -> (strong, mild)
    "happiness": (
        ["I am so happy that", "How wonderful that", "I am full of joy,", "I love it,"],
        ["I am glad that", "It is nice that", "I quite like it,", "It makes me smile that"],
    ),
    "sadness": (
        ["I am so sad that", "It breaks my heart that", "I could cry,", "I am in tears,"],
        ["It is a pity that", "I feel a little low,", "I am sorry that", "It makes me sigh that"],
    ),
    "anger": (
        ["I am furious that", "How dare they,", "I am so angry that", "I have had enough,"],
        ["It annoys me that", "I am rather cross that", "It bothers me that", "This is unfair,"],
    ),
}
EVENTS = {
    "happiness": [
        "we won the game", "you came to dinner", "my sister is coming home", "the exam went well", "I got the job",
        "the cake turned out well", "the baby smiled at me", "our friends are here", "the roses are in bloom",
        "the sun is out again", "you remembered my birthday", "the doctor had good news",
    ],
    "sadness": [
        "he moved away", "the old dog is gone", "nobody came to dinner", "the house feels empty", "we lost the game",
        "I failed the exam", "the roses are dying", "my friend left town", "I am alone again",
        "the letter never came", "she said goodbye", "the doctor had bad news",
    ],
    "anger": [
        "they cancelled the train", "he lied to me", "nobody answers my calls", "you broke my window",
        "the bill is wrong again", "she took my seat", "they lost my order", "he ruined the cake",
        "they woke the baby again", "you never listen to me", "he blames me for it", "they parked in my space",
    ],
}  # fmt: skip
THINGS = ["book", "letter", "cup", "ticket", "lamp", "coat", "bag", "map"]
PLACES = ["kitchen", "office", "hall", "station", "library", "garden", "shop", "museum"]
TIMES = ["nine", "noon", "four", "six", "eight", "ten"]
PLAIN_SENTENCES = [
    "The {thing} is in the {place}.", "I put the {thing} near the {place}.", "The meeting is at {time}.",
    "We meet in the {place} at {time}.", "The {thing} is next to the {other}.", "She will call me at {time}.",
    "He took the {thing} to the {place}.", "You can leave the {thing} in the {place}.", "The {place} opens at {time}.",
    "I have a {thing} and a {other}.", "The game is at {time} today.", "My sister works in the {place}.",
]  # fmt: skip


def main(output: Path) -> None:
    (output / "audio").mkdir(parents=True, exist_ok=True)
    for old in (output / "audio").glob("*.opus"):
        old.unlink()
    rng = random.Random(SEED)
    said: set[str] = set()
    rows = [row for split in ROWS for row in make_split(split, rng, said, output)]
    with open(output / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    train_tokenizer([row["text"] for row in rows if row["split"] == "train" and row["text"]], output / "tokenizer")


def make_split(split: str, rng: random.Random, said: set[str], output: Path) -> list[dict]:
    """Create the rows of one split and write their audio files. Missing values are removed last."""
    emotions = [list(MEANS)[i % len(MEANS)] for i in range(ROWS[split])]
    rng.shuffle(emotions)
    rows = []
    for i, emotion in enumerate(emotions):
        voice = VOICES[split][i % len(VOICES[split])]
        valence, arousal, dominance = (round(min(7, max(1, rng.gauss(m, SPREAD))), 1) for m in MEANS[emotion])
        draw = rng.random()
        plain, flat = draw < PLAIN, PLAIN <= draw < PLAIN + FLAT
        spoken = compose("neutral" if plain else emotion, abs(valence - 4) > 1.8, rng, said)
        row = {
            "utterance_id": f"{split}_{i:03d}", "audio": f"audio/{split}_{i:03d}.opus", "text": spoken,
            "emotion": emotion, "valence": valence, "arousal": arousal, "dominance": dominance,
            "speaker": f"espeak_{voice.lower()}", "split": split,
        }  # fmt: skip
        rows.append(row | {"voice": delivery(voice, emotion, arousal, dominance, flat, rng)})

    no_audio, no_text, no_emotion, no_dimensions = shares(len(rows), rng)
    for i, row in enumerate(rows):
        voice = row.pop("voice")
        if i in no_audio:
            row["audio"] = ""
        else:
            speak(row["text"], voice, output / row["audio"])
        if i in no_text:
            row["text"] = ""
        if i in no_emotion:
            row["emotion"] = ""
        if i in no_dimensions:
            row["valence"] = row["arousal"] = row["dominance"] = ""
    return rows


def shares(n: int, rng: random.Random) -> list[set[int]]:
    """Four disjoint sets of row numbers, without audio, text, emotion or dimensions."""
    order = rng.sample(range(n), n)
    parts = []
    for share in (NO_AUDIO, NO_TEXT, NO_EMOTION, NO_DIMENSIONS):
        size = round(share * n)
        parts.append(set(order[:size]))
        order = order[size:]
    return parts


def compose(emotion: str, strong: bool, rng: random.Random, said: set[str]) -> str:
    """Draw a sentence that was not used before."""
    for _ in range(1000):
        if emotion == "neutral":
            thing, other = rng.sample(THINGS, 2)
            sentence = rng.choice(PLAIN_SENTENCES).format(
                thing=thing, other=other, place=rng.choice(PLACES), time=rng.choice(TIMES)
            )
        else:
            sentence = f"{rng.choice(OPENINGS[emotion][0 if strong else 1])} {rng.choice(EVENTS[emotion])}."
        if sentence not in said:
            said.add(sentence)
            return sentence
    raise RuntimeError(f"the templates for {emotion!r} are used up: add openings or events")


def delivery(voice: str, emotion: str, arousal: float, dominance: float, flat: bool, rng: random.Random) -> dict:
    """espeak-ng's settings: rate (words a minute), volume (0-200), pitch (0-99), pitch range (per cent)."""
    tells = 0.15 if flat else 1.0
    a, d = tells * (arousal - 4) / 1.5, tells * (dominance - 4) / 1.5
    spread = 100 + tells * (PITCH_RANGE[emotion] - 100)
    return {
        "voice": voice,
        "rate": round(max(140, 190 + 34 * a + rng.gauss(0, 6))),
        "volume": round(42 * 2 ** (1.0 * a + 0.3 * d + rng.gauss(0, 0.15))),
        "pitch": round(min(99, max(0, 48 + tells * PITCH_SHIFT[emotion] + 8 * a - 10 * d + rng.gauss(0, 4)))),
        "range": round(max(10, spread + rng.gauss(0, 8))),
    }


def speak(text: str, voice: dict, path: Path) -> None:
    command = ["espeak-ng", "-v", f"en-us+{voice['voice']}", "-s", voice["rate"], "-a", voice["volume"]]
    command += ["-p", voice["pitch"], "-m", "--stdout", f'<prosody range="{voice["range"]}%">{text}</prosody>']
    wav = subprocess.run([str(part) for part in command], check=True, capture_output=True).stdout
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    samples = soxr.resample(samples, rate, SAMPLE_RATE)
    soundfile.write(path, samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=OPUS_COMPRESSION)


def train_tokenizer(texts: list[str], folder: Path) -> None:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # RoBERTa's order, so pad is 1
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=640, min_frequency=2, special_tokens=special, show_progress=False)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    RobertaTokenizer(model["vocab"], merges, model_max_length=128).save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT)
