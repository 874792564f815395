# syntax=docker/dockerfile:1
# Souk with the PostgreSQL it can run privately. With SOUK_DATABASE_URL set, that one stays unused.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --package souk && cp target/release/souk /usr/local/bin/souk

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates curl postgresql \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --home-dir /var/lib/souk --shell /usr/sbin/nologin souk \
 && install --directory --owner souk --group souk --mode 0700 /var/lib/souk
COPY --from=build /usr/local/bin/souk /usr/local/bin/souk
USER souk
ENV SOUK_DATA_DIR=/var/lib/souk SOUK_LISTEN=0.0.0.0:8080 SOUK_METRICS_LISTEN=0.0.0.0:9090
VOLUME /var/lib/souk
EXPOSE 8080 9090
# The first signal drains.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD curl --fail --silent http://127.0.0.1:8080/healthz
ENTRYPOINT ["souk"]
CMD ["serve"]
