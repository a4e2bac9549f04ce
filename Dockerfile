# syntax=docker/dockerfile:1
# One image with all four programs: upflow-api, upflow-worker, upflow-migration and upflow.

FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
# Dependencies, and what was built last time, stay in the builder's cache and not in the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --workspace --bins && \
    install -D -t /out target/release/upflow-api target/release/upflow-worker target/release/upflow-migration target/release/upflow

FROM debian:bookworm-slim
# The certificates by which S3, Redis and PostgreSQL are known.
RUN apt-get update && \
    apt-get install --yes --no-install-recommends ca-certificates && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin upflow
COPY --from=build /out/ /usr/local/bin/
USER 10001
ENV APP_ENV=production UPFLOW_HOST=0.0.0.0
EXPOSE 8000
STOPSIGNAL SIGTERM
# Of upflow-api, the default; other programs have another one or none.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["upflow-api", "health"]
CMD ["upflow-api"]
