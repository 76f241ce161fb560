# The sidecar as an image: the agent, the official Envoy, our filter, and the programs that the agent calls.
#
#   make wasm && cargo build --release --package sandgate
#   docker build -f envoy/sidecar.Dockerfile -t sandgate-sidecar .
#   docker run --cap-add NET_ADMIN --security-opt systempaths=unconfined … sandgate-sidecar --sandbox-interface …
#
# Built from the repository's root. The program has to fit the C library of BASE: built on Debian 13, it fits
# this one. docs/sidecar.md says where it has to run and what it takes.
ARG ENVOY_IMAGE=envoyproxy/envoy:v1.40.0
ARG BASE=debian:trixie-slim

FROM ${ENVOY_IMAGE} AS envoy

FROM ${BASE}
# A BASE of your own that has them is left as it is.
RUN { command -v nft && command -v ip && command -v setpriv; } >/dev/null || { \
      apt-get update \
      && apt-get install --yes --no-install-recommends ca-certificates iproute2 nftables util-linux \
      && rm -rf /var/lib/apt/lists/*; }
COPY --from=envoy /usr/local/bin/envoy /usr/local/bin/envoy
COPY target/release/sandgate /usr/local/bin/sandgate
COPY target/filters/sandgate_egress.wasm /etc/sandgate/sandgate_egress.wasm

# Root, of which a container leaves little: the agent starts Envoy as another user.
ENTRYPOINT ["sandgate", "sidecar", "--filter", "/etc/sandgate/sandgate_egress.wasm"]
