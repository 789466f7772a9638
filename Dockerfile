# docker build -t fedinv . && docker run --rm -v "$PWD/runs:/data/runs" fedinv run hospital
# Needs an image registry and a package registry, nothing else. Runs without privileges; results land in /data/runs.
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY . /src
WORKDIR /src
RUN python -m venv /opt/fedinv
# the CPU build first and alone, so that the default index does not bring gigabytes of CUDA after it
RUN /opt/fedinv/bin/pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" torch==2.13.0 \
    || /opt/fedinv/bin/pip install --no-cache-dir --constraint constraints.txt torch==2.13.0
RUN /opt/fedinv/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.11-slim
COPY --from=build /opt/fedinv /opt/fedinv
RUN useradd --create-home fedinv && mkdir -p /data/runs && chown -R fedinv /data
USER fedinv
WORKDIR /data
ENV PATH=/opt/fedinv/bin:$PATH MPLCONFIGDIR=/tmp/matplotlib
ENTRYPOINT ["fedinv"]
CMD ["--help"]
