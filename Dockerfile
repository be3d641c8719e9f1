# The bare service: scheduler and events under the name `service`, configured by SERVICE_* variables.
# boilerplate/Dockerfile is the one to fork.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY setup.cfg setup.py pyproject.toml README.md LICENSE ./
COPY service_scaffold service_scaffold
# Bytecode at build time: the user below cannot write it, and a start without takes three times as long.
RUN python -m venv /opt/service \
    && /opt/service/bin/pip install --no-cache-dir --compile '.[mqtt,yaml,uvloop]'

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --create-home service
COPY --from=build /opt/service /opt/service
ENV PATH=/opt/service/bin:$PATH \
    PYTHONUNBUFFERED=1
WORKDIR /home/service
USER service
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('SERVICE_PORT', '5000') + '/_service/ready', timeout=2)"]
ENTRYPOINT ["python", "-m", "service_scaffold"]
