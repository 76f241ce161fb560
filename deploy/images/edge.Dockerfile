# The edge as an image: the official Envoy, the ingress filter in both forms, and the configuration.
# SANDGATE_FILTERS=native selects the dynamic module.
#
#   make wasm native && cargo build --release --package sandgate-envoy-config
#   docker build -f deploy/images/edge.Dockerfile -t sandgate-edge \
#     --build-arg ENVOY_IMAGE=envoyproxy/envoy:v1.40.0@sha256:… .
#
# ENVOY_IMAGE has no default: a tag can be moved to another image, so you name the digest that you have
# checked. `docker buildx imagetools inspect envoyproxy/envoy:v1.40.0` prints it.
#
# Built from the repository's root, with both forms of the filter in target/filters and target/release/sandgate-edge-config in
# place. The program renders the templates from environment variables, which docs/configuration.md lists. It must fit the
# C library of ENVOY_IMAGE. The rendered files are in a folder of /tmp; the rest of the root file system can be read-only.
ARG ENVOY_IMAGE

# The name is checked here, where nothing of the named image runs. The digest of August 2026, of all
# platforms, as Docker's official images list it.
ARG BASE=debian:trixie-slim@sha256:3a39a0592364683e6bab97937b72cad5a8fa6dcbbee90edb3bb48c7f8e94f258
FROM ${BASE} AS checked
ARG ENVOY_IMAGE
# An image that only this machine has, has no digest in its name: UNPINNED=yes takes it.
ARG UNPINNED=no
RUN case "$UNPINNED $ENVOY_IMAGE" in "no "*@sha256:* | "yes "*) ;; *) \
      echo "error: ENVOY_IMAGE is \`$ENVOY_IMAGE\`, which has no digest; name it like name:tag@sha256:..." >&2; exit 1 ;; \
    esac
COPY envoy/edge.yaml envoy/edge-dynamic-forward-proxy.yaml envoy/edge-original-dst.yaml envoy/edge-log.yaml envoy/gateway-token.yaml envoy/tls-certificate.yaml envoy/drain.sh envoy/docker-entrypoint.sh deploy/images/answers.sh /etc/sandgate/
COPY target/filters/sandgate_ingress.wasm target/filters/libsandgate_native.so /etc/sandgate/
# Envoy's user reads them, whatever their modes in the working tree are. `COPY --chmod` would need BuildKit.
RUN chmod 0644 /etc/sandgate/* && chmod 0755 /etc/sandgate /etc/sandgate/*.sh

# Nothing may run in this stage before the check: what it copies first is there only after the check.
FROM ${ENVOY_IMAGE}
COPY --from=checked /etc/sandgate /etc/sandgate
COPY target/release/sandgate-edge-config /usr/local/bin/sandgate-edge-config

ARG ENVOY_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sandgate-edge" \
      org.opencontainers.image.description="Envoy with Sandgate's ingress filter" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="$ENVOY_IMAGE"
# Plain text and TLS. Nothing here needs root, and ports below 1024 are the load balancer's to map.
EXPOSE 9443 9444
# The official image's `envoy`, by number, because Kubernetes can't see that a name is not root.
USER 101:101
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s \
  CMD ["bash", "-c", "exec bash /etc/sandgate/answers.sh \"${SANDGATE_ADMIN_PORT:-9901}\" /ready"]
ENTRYPOINT ["/etc/sandgate/docker-entrypoint.sh"]
