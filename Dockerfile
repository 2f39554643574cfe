# One image for every process; the command says which. Runs as an ordinary user.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY service service
COPY detectors detectors
COPY clients clients
COPY migrations migrations
RUN python -m venv /opt/stackwitness && /opt/stackwitness/bin/pip install --no-cache-dir '.[server]' -c constraints.txt

FROM python:3.13-slim
RUN useradd --system --create-home --home-dir /var/lib/stackwitness stackwitness \
    && mkdir -p /var/lib/stackwitness/home/log /var/lib/stackwitness/home/signer /var/lib/stackwitness/home/keys \
    && chown -R stackwitness:stackwitness /var/lib/stackwitness
COPY --from=build /opt/stackwitness /opt/stackwitness
ENV PATH=/opt/stackwitness/bin:$PATH STACKWITNESS_HOME=/var/lib/stackwitness/home PYTHONUNBUFFERED=1
USER stackwitness
ENTRYPOINT ["stackwitness"]
CMD ["serve"]
