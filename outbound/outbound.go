// Package outbound is the one way in which a node speaks to addresses that somebody typed into a form: the jwks_uri of
// a client, the issuer of ID tokens, a webhook.
//
// Such a URL is data, and a node stands where its author doesn't: inside the network, beside the metadata service, with
// the cluster port a hop away. So a Client refuses by address, not by name, and at the last moment: when the name has
// been looked up and the socket is about to be connected, so that a name which resolves to something else the second
// time (DNS rebinding) gains nothing. Only addresses of the public internet are spoken to; whatever else an operator
// means, such as an issuer on the premises, is allowed by prefix. Forms of IPv6 that carry an IPv4 address are judged by
// that one. The well-known prefix of NAT64 is among them; a network that translates under a prefix of its own has to
// keep its private addresses out of reach of that translator itself, as nobody here can know the prefix.
//
// Further:
//   - https only, TLS 1.2 at least, with certificates that verify. Plain http goes only to addresses allowed for it by
//     prefix: allowing a private address does not allow it in the clear.
//   - Redirects are an error. Whoever is allowed to answer is not thereby allowed to name the next address, and
//     a client that follows one is a client that can be steered.
//   - No proxy, in particular none of the environment: a proxy looks the name up and connects by itself, so the address
//     would be judged here that is the proxy's and never the one spoken to. Where the way out is a proxy only, the
//     proxy has to be transparent.
//   - Bounded: the whole exchange in time, header and body in bytes, connections in number. No compression, so that the
//     bytes counted are the bytes held; no cookies; HTTP/1.1 only.
//
// On it stand two things. A KeySource keeps documents of keys fetched and fresh (see there for what it does when a
// source is down), and Webhooks delivers signed events (see there for the signature and how to verify it).
//
// Nothing here knows what a key or an event is: the package carries bytes.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

const (
	// DefaultTimeout is for one whole exchange, from the look-up of the name to the last byte of the answer.
	DefaultTimeout = 5 * time.Second
	// DefaultMaxBody is the longest answer that is taken, in bytes. A set of a hundred RSA keys with their
	// certificates fits.
	DefaultMaxBody = 64 << 10
	// maxHeaders is for the header of an answer, in bytes.
	maxHeaders = 16 << 10
	// maxConnsPerHost and maxIdleConns bound the sockets that one slow host and all hosts together may hold.
	maxConnsPerHost = 4
	maxIdleConns    = 32
	// idleFor is how long a connection waits for the next exchange: long enough for a burst of events, too short to
	// be counted on. Its address was judged when it was made.
	idleFor = 30 * time.Second
)

// Options of a Client. The zero value speaks https to the public internet.
type Options struct {
	// AllowPrivate are addresses that may be spoken to though they are not of the public internet. A cloud's metadata
	// service is allowed by a prefix of its single address only; multicast and unspecified addresses never.
	AllowPrivate []netip.Prefix
	// AllowPlaintext are addresses that may be spoken to over http, too, whatever their kind. It is for tests and for
	// sidecars on loopback: keys that come in the clear are anybody's keys.
	AllowPlaintext []netip.Prefix

	RootCAs   *x509.CertPool   // who vouches for servers; nil: the system's
	Timeout   time.Duration    // of one exchange; 0: DefaultTimeout
	MaxBody   int64            // of an answer, in bytes; 0: DefaultMaxBody
	UserAgent string           // "": deputy
	Resolver  *net.Resolver    // nil: the system's
	Clock     func() time.Time // stamps signatures of webhooks; nil: time.Now
}

// Client speaks to configured addresses. It is safe for concurrent use.
type Client struct {
	gate      gate
	timeout   time.Duration
	maxBody   int64
	userAgent string
	clock     func() time.Time
	http      *http.Client
	transport *http.Transport
	tls       *tls.Config
	dialer    net.Dialer

	ctx  context.Context // ends with Close; dials outlive the request that began them
	stop context.CancelFunc
}

// New makes a client.
func New(o Options) (*Client, error) {
	private, err := allowed("AllowPrivate", o.AllowPrivate)
	if err != nil {
		return nil, err
	}
	plaintext, err := allowed("AllowPlaintext", o.AllowPlaintext)
	if err != nil {
		return nil, err
	}
	if o.Timeout < 0 || o.MaxBody < 0 {
		return nil, errors.New("the timeout and the longest body of outbound requests must not be negative")
	}
	c := &Client{
		gate:      gate{private: private, plaintext: plaintext},
		timeout:   o.Timeout,
		maxBody:   o.MaxBody,
		userAgent: o.UserAgent,
		clock:     o.Clock,
		tls:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs, NextProtos: []string{"http/1.1"}},
	}
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	if c.maxBody == 0 {
		c.maxBody = DefaultMaxBody
	}
	if c.userAgent == "" {
		c.userAgent = "deputy"
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.dialer = net.Dialer{Timeout: c.timeout, Resolver: o.Resolver}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	c.transport = &http.Transport{
		Proxy:                  nil, // also not that of the environment; see the package comment
		DialContext:            c.dialPlain,
		DialTLSContext:         c.dialTLS,
		Protocols:              protocols,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaders,
		ResponseHeaderTimeout:  c.timeout,
		MaxConnsPerHost:        maxConnsPerHost,
		MaxIdleConnsPerHost:    1,
		MaxIdleConns:           maxIdleConns,
		IdleConnTimeout:        idleFor,
	}
	c.http = &http.Client{
		Transport:     c.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Close ends what is under way and closes idle connections. Requests made later fail.
func (c *Client) Close() {
	c.stop()
	c.transport.CloseIdleConnections()
}

// dialPlain connects for an http URL, dialTLS for an https one. net/http detaches the context of a dial from that of
// the request, so both have a bound of their own.
func (c *Client) dialPlain(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	return c.dial(ctx, network, address, true)
}

func (c *Client) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	raw, err := c.dial(ctx, network, address, false)
	if err != nil {
		return nil, err
	}
	config := c.tls.Clone()
	config.ServerName = host
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the handshake's error is the one to tell
		return nil, &handshakeError{err}
	}
	return conn, nil
}

func (c *Client) dial(ctx context.Context, network, address string, plain bool) (net.Conn, error) {
	dialer := c.dialer
	// Called for each socket, with the address that it is about to be connected to.
	dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("an address that can't be judged: %w", err)
		}
		return c.gate.check(to.Addr(), plain)
	}
	return dialer.DialContext(ctx, network, address)
}

// bounded gives a context the client's timeout, and ends it with the client.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	unhook := context.AfterFunc(c.ctx, cancel)
	return ctx, func() {
		unhook()
		cancel()
	}
}
