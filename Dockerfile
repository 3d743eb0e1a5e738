# The service with the web page, on the CPU: see docs/guides/service.md.
FROM python:3.12-slim-bookworm AS build
# The usual build of torch for Linux contains several gigabytes of CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /build
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.6,<2.14"
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /venv/bin/pip install --no-cache-dir ".[ui]"

FROM python:3.12-slim-bookworm
RUN useradd --no-log-init --create-home --uid 10001 blinddiff
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /home/blinddiff
USER 10001
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/healthz', timeout=8)"]
ENTRYPOINT ["blinddiff", "serve", "--host", "0.0.0.0"]
