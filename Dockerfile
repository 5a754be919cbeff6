# The page of `mmer space` and its API in a container, on a CPU or a GPU. docs/serve.md says how to build and run it.

# Any image with Python 3.11 or newer, such as one with torch for a certain CUDA.
ARG BASE=python:3.11-slim
FROM ${BASE}

# ffmpeg decodes M4A, MP4 and WebM.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/*

# The server runs as a user who owns nothing but the cache of encoders.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin mmer \
    && install --directory --owner mmer --group mmer /cache

# By default, torch is that of the package index, which runs on CPUs and NVIDIA GPUs. An index of builds for CPUs alone makes
# the image a fraction of the size.
ARG TORCH_INDEX=""
WORKDIR /mmer
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY modeling_mmer modeling_mmer
COPY model_cards model_cards
# Gradio wants an older pillow than the rest is tested with.
RUN grep -vi '^pillow==' constraints.txt > constraints-space.txt \
    && pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints-space.txt ".[space]"

# A folder of this repository: by default, the model that comes with the package. At run time, another may be mounted at /model.
ARG MODEL=modeling_mmer/released
COPY --chown=mmer ${MODEL} /model
ENV MMER_MODEL=/model HF_HOME=/cache MPLCONFIGDIR=/tmp/matplotlib PYTHONUNBUFFERED=1
USER mmer
WORKDIR /tmp

# Not empty: the encoders that the model names are in the image, and not downloaded at the first start.
ARG ENCODERS=""
RUN if [ -n "$ENCODERS" ]; then mmer predict --model "$MMER_MODEL" --text "I am so glad that we won."; fi

EXPOSE 7860
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/gradio_api/startup-events', timeout=4)"]
ENTRYPOINT ["mmer", "space", "--host", "0.0.0.0"]
