# The control plane as an image: the program `sandgate`.
#
#   cargo build --release --package sandgate
#   docker build -f deploy/images/control-plane.Dockerfile -t sandgate .
#
# Built from the repository's root. The program must fit the C library of BASE: built on Debian 13 or older, it fits this one.
# It writes nothing with `--database`, so the root file system can be read-only.
#
# The digest of August 2026, of all platforms, as Docker's official images list it.
ARG BASE=debian:trixie-slim@sha256:3a39a0592364683e6bab97937b72cad5a8fa6dcbbee90edb3bb48c7f8e94f258

FROM ${BASE}
ARG BASE
# An image that only this machine has, has no digest in its name: UNPINNED=yes takes it.
ARG UNPINNED=no
RUN case "$UNPINNED $BASE" in "no "*@sha256:* | "yes "*) ;; *) \
      echo "error: BASE is \`$BASE\`, which has no digest; name it like name:tag@sha256:..." >&2; exit 1 ;; \
    esac
# The authorities that sign the certificates of your platform and your database. A BASE that has them is left as it is.
RUN [ -e /etc/ssl/certs/ca-certificates.crt ] || { \
      apt-get update \
      && apt-get install --yes --no-install-recommends ca-certificates \
      && rm -rf /var/lib/apt/lists/*; }
COPY deploy/images/answers.sh deploy/images/control-plane.sh /usr/local/lib/sandgate/
COPY target/release/sandgate /usr/local/bin/sandgate

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sandgate" \
      org.opencontainers.image.description="Sandgate's control plane" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="$BASE"
# The public API, the gateway API, and xDS.
EXPOSE 8900 8901 8902
USER 65532:65532
# The server listens once it has its store. /readyz says more, but the public API may speak TLS.
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s \
  CMD ["bash", "/usr/local/lib/sandgate/answers.sh", "8900"]
ENTRYPOINT ["bash", "/usr/local/lib/sandgate/control-plane.sh"]
CMD ["--help"]
