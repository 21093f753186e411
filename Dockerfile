# The tests on a clean machine, without a GPU: docker build -t vitreid . && docker run --rm vitreid
FROM python:3.12-slim

# make is the only program missing; the headless OpenCV needs no display libraries
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*

# without CUDA, the image is several GB smaller; --build-arg TORCH_INDEX=https://pypi.org/simple builds it with CUDA
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_EXTRA_INDEX_URL=${TORCH_INDEX} PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

RUN useradd --create-home vitreid
USER vitreid
WORKDIR /home/vitreid/vitreid
COPY --chown=vitreid . .
RUN make .venv/installed

CMD ["make", "test"]
