# A demo sandbox, and a demo platform that gives out a fixed number of them: for deploy/compose.yaml, not for production.
#
#   cargo build --release --package sandgate-demo
#   docker build -f deploy/images/demo.Dockerfile -t sandgate-demo .
#
# Built from the repository's root. The digest of August 2026, of all platforms, as Docker's official images list it.
ARG BASE=debian:trixie-slim@sha256:3a39a0592364683e6bab97937b72cad5a8fa6dcbbee90edb3bb48c7f8e94f258

FROM ${BASE}
ARG BASE
# An image that only this machine has, has no digest in its name: UNPINNED=yes takes it.
ARG UNPINNED=no
RUN case "$UNPINNED $BASE" in "no "*@sha256:* | "yes "*) ;; *) \
      echo "error: BASE is \`$BASE\`, which has no digest; name it like name:tag@sha256:..." >&2; exit 1 ;; \
    esac
# A BASE that has them is left as it is.
RUN { command -v ip && command -v setpriv && command -v python3 && command -v curl; } >/dev/null || { \
      apt-get update \
      && apt-get install --yes --no-install-recommends ca-certificates curl iproute2 python3 util-linux \
      && rm -rf /var/lib/apt/lists/*; }
COPY docs/examples/webhook_receiver.py deploy/compose/platform.py deploy/sandbox/sandbox.sh /usr/local/lib/sandgate/
COPY target/release/sandgate-demo /usr/local/bin/sandgate-demo

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sandgate-demo" \
      org.opencontainers.image.description="A demo sandbox and a demo platform for Sandgate" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="$BASE"
