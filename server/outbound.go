package server

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"

	"github.com/deputy-id/deputy/outbound"
	"github.com/deputy-id/deputy/proofs"
)

// openOutbound makes the one client that speaks to addresses which were typed in, and the source of public keys on it.
func (s *Server) openOutbound() error {
	roots, err := s.config.Outbound.roots()
	if err != nil {
		return err
	}
	o := outbound.Options{
		AllowPrivate: s.config.Outbound.Allow, AllowPlaintext: s.config.Outbound.AllowHTTP, RootCAs: roots,
		UserAgent: "deputy/" + s.version, Clock: s.clock,
	}
	if s.dev {
		// An issuer to try things with runs on the same machine.
		loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
		o.AllowPrivate, o.AllowPlaintext = append(loopback, o.AllowPrivate...), append(loopback, o.AllowPlaintext...)
	}
	if s.outbound, err = outbound.New(o); err != nil {
		return fmt.Errorf("outbound: %w", err)
	}
	s.closers = append(s.closers, closer(s.outbound.Close))
	s.remoteKeys, err = outbound.NewKeySource(outbound.KeySourceOptions[*proofs.Keys]{
		Client: s.outbound, Parse: proofs.ParsePublishedKeys, Clock: s.clock, Logger: s.logger, Registerer: s.registry,
	})
	if err != nil {
		return fmt.Errorf("outbound: %w", err)
	}
	return s.openWebhooks()
}

// roots are the system's authorities and those of the file; nil is the system's.
func (c *OutboundConfig) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("outbound.ca_file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("outbound.ca_file: %s holds no certificate in PEM", c.CAFile)
	}
	return pool, nil
}

// closer is a Close that can't fail.
type closer func()

func (c closer) Close() error {
	c()
	return nil
}
