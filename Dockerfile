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
    && useradd --system --no-create-home --groups stackwitness signer \
    && mkdir -p /var/lib/stackwitness/home/log /var/lib/stackwitness/home/signer /var/lib/stackwitness/home/keys \
       /var/lib/stackwitness/home/sockets \
    && chown -R stackwitness:stackwitness /var/lib/stackwitness \
    && chown signer:signer /var/lib/stackwitness/home/signer && chown signer:stackwitness /var/lib/stackwitness/home/sockets \
    && chmod 0755 /var/lib/stackwitness /var/lib/stackwitness/home && chmod 0700 /var/lib/stackwitness/home/keys \
    && chmod 0700 /var/lib/stackwitness/home/signer && chmod 2770 /var/lib/stackwitness/home/sockets
COPY --from=build /opt/stackwitness /opt/stackwitness
ENV PATH=/opt/stackwitness/bin:$PATH STACKWITNESS_HOME=/var/lib/stackwitness/home PYTHONUNBUFFERED=1
USER stackwitness
ENTRYPOINT ["stackwitness"]
CMD ["serve"]
