package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Protocols of the cluster port, told apart by ALPN (RFC 7301).
const (
	protocolRaft = "deputy-raft"
	protocolRPC  = "deputy-rpc"
	protocolJoin = "deputy-join"
)

// selfSigned makes the certificate that carries the node's key. It never expires and nobody checks its dates,
// issuer or names: TLS 1.3 proves possession of the key (RFC 8446 section 4.4.3) and the table decides.
func selfSigned(nodeID string, key NodeKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: nodeID}, // for whoever looks at a capture; never trusted
		NotBefore:    time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 section 4.1.2.5: none
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key.private)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making the node's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key.private}, nil
}

// peerKey returns the Ed25519 key that the other end has proved.
func peerKey(cs *tls.ConnectionState) (ed25519.PublicKey, error) {
	if len(cs.PeerCertificates) != 1 {
		return nil, fmt.Errorf("the peer sent %d certificates; one is expected", len(cs.PeerCertificates))
	}
	key, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the peer's key is a %T; Ed25519 is expected", cs.PeerCertificates[0].PublicKey)
	}
	return key, nil
}

// baseTLS has no sessions to resume: every connection proves its key afresh.
func baseTLS(certificate tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{certificate},
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
	}
}

// serverTLS lets admit decide on the key and the protocol before the handshake ends.
func serverTLS(certificate tls.Certificate, admit func(protocol string, key ed25519.PublicKey) error) *tls.Config {
	config := baseTLS(certificate)
	config.NextProtos = []string{protocolRaft, protocolRPC, protocolJoin}
	config.ClientAuth = tls.RequireAnyClientCert
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		key, err := peerKey(&cs)
		if err != nil {
			return err
		}
		return admit(cs.NegotiatedProtocol, key)
	}
	return config
}

// clientTLS accepts exactly one key at the other end: that of the member which is meant.
func clientTLS(certificate tls.Certificate, protocol string, want ed25519.PublicKey) *tls.Config {
	config := baseTLS(certificate)
	config.NextProtos = []string{protocol}
	config.InsecureSkipVerify = true // names and chains mean nothing here; VerifyConnection checks the key
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		key, err := peerKey(&cs)
		if err != nil {
			return err
		}
		if !want.Equal(key) {
			return errors.New("the other end has another key than the one expected")
		}
		if cs.NegotiatedProtocol != protocol {
			return fmt.Errorf("the other end doesn't speak %s", protocol)
		}
		return nil
	}
	return config
}
