# The edge as an image: the official Envoy, our filter, our configuration.
#
#   make wasm native && cargo build --release --package sandgate-envoy-config
#   docker build -f envoy/Dockerfile -t sandgate-edge \
#     --build-arg ENVOY_IMAGE=envoyproxy/envoy:v1.40.0@sha256:… .
#
# ENVOY_IMAGE has no default: a tag can be moved to another image, so you name the digest that you have
# checked. `docker buildx imagetools inspect envoyproxy/envoy:v1.40.0` prints it.
#
# Built from the repository's root, with both forms of the filter in target/filters and target/release/sandgate-edge-config in
# place. The program renders the templates from environment variables, which docs/configuration.md lists. It must fit the
# C library of ENVOY_IMAGE.
ARG ENVOY_IMAGE

# The name is checked here, where nothing of the named image runs. The digest of August 2026, of all
# platforms, as Docker's official images list it.
FROM debian:trixie-slim@sha256:3a39a0592364683e6bab97937b72cad5a8fa6dcbbee90edb3bb48c7f8e94f258 AS checked
ARG ENVOY_IMAGE
# An image that only this machine has, has no digest in its name: UNPINNED=yes takes it.
ARG UNPINNED=no
RUN case "$UNPINNED $ENVOY_IMAGE" in "no "*@sha256:* | "yes "*) echo "$ENVOY_IMAGE" >/base ;; *) \
      echo "error: ENVOY_IMAGE is \`$ENVOY_IMAGE\`, which has no digest; name it like name:tag@sha256:..." >&2; exit 1 ;; \
    esac

# Nothing may run in this stage: what it copies first is there only after the check.
FROM ${ENVOY_IMAGE}
COPY --from=checked --chmod=0644 /base /etc/sandgate/base
COPY --chmod=0644 envoy/edge.yaml envoy/edge-dynamic-forward-proxy.yaml envoy/edge-original-dst.yaml envoy/edge-log.yaml envoy/gateway-token.yaml envoy/tls-certificate.yaml target/filters/sandgate_ingress.wasm target/filters/libsandgate_native.so /etc/sandgate/
COPY --chmod=0755 envoy/drain.sh envoy/docker-entrypoint.sh /etc/sandgate/
COPY --chmod=0755 target/release/sandgate-edge-config /usr/local/bin/

# Plain text and TLS. Nothing here needs root, and ports below 1024 are the load balancer's to map.
EXPOSE 9443 9444
USER envoy
ENTRYPOINT ["/etc/sandgate/docker-entrypoint.sh"]
