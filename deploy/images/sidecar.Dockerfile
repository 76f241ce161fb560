# The sidecar as an image: the agent, the official Envoy, our filter in both forms, and the programs that the agent calls.
# SANDGATE_FILTERS=native selects the dynamic module.
#
#   make wasm native && cargo build --release --package sandgate-sidecar
#   docker build -f deploy/images/sidecar.Dockerfile -t sandgate-sidecar \
#     --build-arg ENVOY_IMAGE=envoyproxy/envoy:v1.40.0@sha256:… .
#   docker run --cap-add NET_ADMIN --security-opt systempaths=unconfined … sandgate-sidecar --sandbox-interface …
#
# Built from the repository's root. The program and the module have to fit the C library of BASE: built on Debian 13,
# they fit this one. docs/sidecar.md says where it has to run and what it takes.
#
# ENVOY_IMAGE has no default: a tag can be moved to another image, so you name the digest that you have
# checked. `docker buildx imagetools inspect envoyproxy/envoy:v1.40.0` prints it.
ARG ENVOY_IMAGE
# The digest of August 2026, of all platforms, as Docker's official images list it.
ARG BASE=debian:trixie-slim@sha256:3a39a0592364683e6bab97937b72cad5a8fa6dcbbee90edb3bb48c7f8e94f258

FROM ${ENVOY_IMAGE} AS envoy

FROM ${BASE}
# The check runs in BASE, and nothing of Envoy's image but its program is used. A BASE of your own that is
# named by a tag checks itself: for it, the check finds a mistake and stops no attack.
# Images that only this machine has, have no digest in their name: UNPINNED=yes takes them.
ARG ENVOY_IMAGE
ARG BASE
ARG UNPINNED=no
RUN for image in "$ENVOY_IMAGE" "$BASE"; do case "$UNPINNED $image" in "no "*@sha256:* | "yes "*) ;; *) \
      echo "error: an image is \`$image\`, which has no digest; name it like name:tag@sha256:..." >&2; exit 1 ;; \
    esac; done
# A BASE of your own that has them is left as it is.
RUN { command -v nft && command -v ip && command -v setpriv; } >/dev/null || { \
      apt-get update \
      && apt-get install --yes --no-install-recommends ca-certificates iproute2 nftables util-linux \
      && rm -rf /var/lib/apt/lists/*; }
COPY --from=envoy /usr/local/bin/envoy /usr/local/bin/envoy
COPY target/release/sandgate-sidecar /usr/local/bin/sandgate-sidecar
COPY deploy/sandbox/sidecar.sh /usr/local/lib/sandgate/sidecar.sh
# Envoy loads them as a user of its own, so everybody must be able to read them. `COPY --chmod` would need BuildKit.
COPY target/filters/sandgate_egress.wasm target/filters/libsandgate_native.so /etc/sandgate/


ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sandgate-sidecar" \
      org.opencontainers.image.description="Sandgate's sidecar: the agent of one sandbox, and Envoy with the egress filter" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="$BASE"
# Root, of which a container leaves little: the agent starts Envoy as another user.
ENTRYPOINT ["sandgate-sidecar"]
