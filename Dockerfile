# An image with one static binary and the CA certificates, nothing else.
#   docker build --build-arg VERSION=1.2.3 --build-arg REVISION=$(git rev-parse HEAD) -t vitrine .
#   docker run --rm -p 127.0.0.1:8080:8080 --read-only --cap-drop all -v ./docs:/docs:ro -e DOCS_DIR=/docs vitrine
# The same sources and arguments give the same binary, byte for byte: TestBinaryIsReproducible runs the build of the RUN line.
FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION
ARG REVISION=unknown
# Go cross-compiles, so that no other machine is emulated. Builders without platforms set neither: this machine's.
ARG TARGETOS
ARG TARGETARCH
RUN go env -w "GOOS=${TARGETOS:-linux}" "GOARCH=${TARGETARCH:-$(go env GOARCH)}"
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.stampedVersion=${VERSION} -X main.stampedRevision=${REVISION}" -o /vitrine .

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /vitrine /vitrine
# A number, because Kubernetes cannot check that a named user is not root. If DOCS_DIR is written to, this user must own it.
USER 65532:65532
ENV ADDR=:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["/vitrine", "-health"]
ENTRYPOINT ["/vitrine"]
