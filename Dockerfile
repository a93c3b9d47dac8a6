# The product's image: one static binary, the authorities that TLS trusts, and a place to write. `make image` builds it.
# It is made from what `make image` has put into bin/image, so that it needs no other image and no network.
FROM scratch
ARG VERSION=devel
LABEL org.opencontainers.image.title="Tenure" \
      org.opencontainers.image.description="A control plane for SaaS vendors" \
      org.opencontainers.image.source="https://github.com/tenure-dev/tenure" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY bin/image/root/ /
# Directories that volumes take their owner from: whoever runs here may write to them, and to nothing else.
COPY --chown=65532:65532 bin/image/owned/ /
ENV TENURE_DATA=/var/lib/tenure
USER 65532:65532
VOLUME /var/lib/tenure
ENTRYPOINT ["/tenure"]
CMD ["--help"]
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["/tenure", "health"]
