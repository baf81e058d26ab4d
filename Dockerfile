# syntax=docker/dockerfile:1

# The service in a small image: docker build --tag saga-host .
# BuildKit keeps Cargo's registry and target folder between builds, so that only what changed is compiled again.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package host --bin saga-host \
    && install -D --strip target/release/saga-host /image/usr/local/bin/saga-host \
    && install -d /image/var/lib/saga-host

# glibc, CA certificates and a user; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build --chown=65532:65532 /image/var/lib/saga-host /var/lib/saga-host
COPY --from=build /image/usr/local/bin/saga-host /usr/local/bin/saga-host

# A container is reached from outside, which the service allows with tokens only: SAGA__AUTH__SECRET has to be set.
# Without SAGA__STORE__URL, everything is in the volume (SQLite).
ENV SAGA__HTTP__LISTEN=0.0.0.0:8080 \
    SAGA__AUTH__MODE=jwt \
    SAGA__LOG__FORMAT=json
WORKDIR /var/lib/saga-host
VOLUME /var/lib/saga-host
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --start-interval=1s --retries=3 \
    CMD ["/usr/local/bin/saga-host", "health"]
ENTRYPOINT ["/usr/local/bin/saga-host"]
CMD ["serve"]
