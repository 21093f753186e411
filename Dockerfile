# The page over a gallery; how to start it: docs/install.md. Without a GPU.
#     docker build -t vitreid .
# The tests on a clean machine:
#     docker build --target tests -t vitreid-tests . && docker run --rm vitreid-tests
FROM python:3.12-slim AS base

# without CUDA, the image is several GB smaller; --build-arg TORCH_INDEX=https://pypi.org/simple builds it with CUDA
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_EXTRA_INDEX_URL=${TORCH_INDEX} PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

RUN useradd --create-home vitreid
WORKDIR /home/vitreid/vitreid
COPY --chown=vitreid . .

FROM base AS tests
# make is the only program missing; the headless OpenCV needs no display libraries
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
USER vitreid
RUN make .venv/installed
CMD ["make", "test"]

FROM base AS page
RUN pip install ".[serve,video]"
USER vitreid
WORKDIR /home/vitreid
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["vitreid"]
CMD ["serve", "--gallery", "/gallery", "--weights", "/weights/best.safetensors", "--host", "0.0.0.0"]
