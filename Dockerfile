# The broker as one static binary in an empty image, run by nobody in particular.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/portico ./cmd/portico \
 && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /out/sampleapp ./examples/sampleapp/cmd/sampleapp \
 && mkdir -p /out/data

# The sample app of docker-compose.yml; docker build --target sampleapp
FROM scratch AS sampleapp
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/sampleapp /sampleapp
USER 65532:65532
EXPOSE 8081
ENTRYPOINT ["/sampleapp"]

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/portico /portico
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/portico", "health"]
ENTRYPOINT ["/portico"]
CMD ["serve", "--config", "/etc/portico/portico.yaml"]
