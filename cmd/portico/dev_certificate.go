package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// devCertificate is what development serves mutual TLS with. It is its own authority, the one that issues the certificates of tls_client_auth, and its key
// is the trusted issuer's as well: one pair of files is all there is to trust and to sign with.
type devCertificate struct {
	file, keyFile string
	jwks          string // the public key, as a JWK Set
}

const (
	devCertificateFile = "dev.pem"
	devKeyFile         = "dev.key"
	// devCertificateLife is longer than anybody keeps a folder for development.
	devCertificateLife = 10 * 365 * 24 * time.Hour
)

// openDevCertificate reads the data folder's certificate, which it makes where there is none.
func openDevCertificate(dir string) (*devCertificate, error) {
	c := &devCertificate{file: filepath.Join(dir, devCertificateFile), keyFile: filepath.Join(dir, devKeyFile)}
	raw, err := os.ReadFile(c.file)
	if errors.Is(err, fs.ErrNotExist) {
		if err = c.make(); err == nil {
			raw, err = os.ReadFile(c.file)
		}
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate", c.file)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.file, err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: certificate.PublicKey, Algorithm: string(jose.ES256), Use: "sig"}}})
	c.jwks = string(set)
	return c, err
}

func (c *devCertificate) make() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: "portico dev"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(devCertificateLife),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		DNSNames:     []string{"localhost"},
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IsCA:         true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	// The certificate last: where it is, the key is too.
	if err := writePEM(c.keyFile, "PRIVATE KEY", private); err != nil {
		return err
	}
	return writePEM(c.file, "CERTIFICATE", certificate)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
