package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/deputy-id/deputy/client"
)

// certify makes a certificate for loopback that the run's own nodes serve with, and that it trusts.
func (c *ownCluster) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key for TLS: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "deputy bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("making a certificate for TLS: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("making a key for TLS: %w", err)
	}
	c.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	c.cert, c.key = filepath.Join(c.dir, "tls.pem"), filepath.Join(c.dir, "tls.key")
	if err := os.WriteFile(c.cert, c.ca, 0o600); err != nil {
		return err
	}
	return os.WriteFile(c.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}

func (c *ownCluster) clientOf(addresses ...string) (*client.Client, error) {
	o := client.Options{Addresses: addresses, Token: c.token, UserAgent: "deputy-bench"}
	if c.ca != nil {
		var err error
		if o.Transport, err = TransportTrusting(c.ca); err != nil {
			return nil, err
		}
	}
	return client.New(o)
}

// TransportTrusting makes one for a client that trusts the authorities in PEM, and no others.
func TransportTrusting(ca []byte) (http.RoundTripper, error) {
	config, err := trusting(ca)
	if err != nil {
		return nil, err
	}
	return &http.Transport{TLSClientConfig: config}, nil
}

// trusting makes the configuration of a client that trusts the authorities in PEM, and no others.
func trusting(ca []byte) (*tls.Config, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("it holds no certificate in PEM")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// hostOf is host:port of a base URL.
func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Host
}
