// Package client speaks to a Deputy cluster over HTTP.
//
// Every node answers every request, so a client is given several addresses and goes on to the next one
// where a node can't be reached or says that it can't vouch for an answer. How often it tries is bounded,
// and a request that may have taken effect is only repeated where repeating it is harmless: replicated
// writes carry an idempotency key for that.
//
// A client remembers the log index of its last write and sends it along, so that what it wrote is what it
// reads, at whichever node it asks next.
package client

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of one client. Rounds and addresses bound the attempts of a request, together with its context.
const (
	MaxAddresses = 16 // more nodes belong behind a name or a load balancer

	rounds         = 4                      // over all addresses: enough to sit out an election
	firstPause     = 100 * time.Millisecond // after the first round; it doubles with every further one
	maxPause       = 2 * time.Second        // also where a node asks for a longer one
	dialTimeout    = 2 * time.Second        // a dead node must not eat the time of a live one
	attemptTimeout = 30 * time.Second       // longer than any wait that a node grants unasked
	maxAnswer      = 64 << 20               // a list of 1,000 agents with all they may hold is half of it
)

// Credentials are an agent's or an application's own: its id and a secret, or a key whose public half is registered.
type Credentials struct {
	ID     string
	Secret string
	Key    *Key // for the OAuth endpoints only, in place of the secret
}

// Options say whom to speak to and as whom.
type Options struct {
	// Addresses of nodes, as URLs or as host:port. A bare loopback address means http, any other https:
	// a secret never crosses a network in clear text because a scheme was left out.
	Addresses []string
	// Token is an API token; or a user's ID token, for what users do for themselves. It is not needed for calls that carry credentials of their own.
	Token string
	// UserAgent names the program in the nodes' logs; "deputy-client" where empty.
	UserAgent string
	// Transport replaces the one that New makes, for custom TLS roots and for tests.
	Transport http.RoundTripper
}

// Client speaks to a cluster. It may be used from several goroutines at once.
type Client struct {
	addresses []*url.URL
	token     string
	userAgent string
	http      *http.Client
	preferred atomic.Int64  // index of the address that answered last
	index     atomic.Uint64 // newest log index that this client has seen
	pause     func(context.Context, time.Duration) error

	issuedBy atomic.Pointer[string]
	nonces   sync.Map // address → the DPoP nonce that its node gave out last
}

// New makes a client. It opens no connection.
func New(o Options) (*Client, error) {
	if len(o.Addresses) == 0 {
		return nil, fmt.Errorf("no address of a node is given")
	}
	if len(o.Addresses) > MaxAddresses {
		return nil, fmt.Errorf("%d addresses are given; at most %d are of use", len(o.Addresses), MaxAddresses)
	}
	c := &Client{token: o.Token, userAgent: o.UserAgent, pause: pause}
	for _, text := range o.Addresses {
		address, err := ParseAddress(text)
		if err != nil {
			return nil, err
		}
		c.addresses = append(c.addresses, address)
	}
	if c.userAgent == "" {
		c.userAgent = "deputy-client"
	}
	transport := o.Transport
	if transport == nil {
		transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout: dialTimeout,
			IdleConnTimeout:     time.Minute,
			MaxIdleConnsPerHost: 64,
			ForceAttemptHTTP2:   true,
		}
	}
	c.http = &http.Client{
		Transport: transport,
		// No node ever redirects; who does is not a node and shall not be shown a token.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// ParseAddress reads a node's address: a URL, or host:port as Options describes.
func ParseAddress(text string) (*url.URL, error) {
	text = strings.TrimSpace(text)
	if text != "" && !strings.Contains(text, "://") {
		text = schemeFor(text) + "://" + text
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("%q is not the address of a node; give one such as http://127.0.0.1:8401", text)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("the address of %s holds more than scheme, host, port and path", u.Host)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}

func schemeFor(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if host == "localhost" {
		return "http"
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil && ip.IsLoopback() {
		return "http"
	}
	return "https"
}

// Addresses returns the nodes' addresses, in the order given.
func (c *Client) Addresses() []string {
	texts := make([]string, len(c.addresses))
	for i, a := range c.addresses {
		texts[i] = a.String()
	}
	return texts
}

// Index is the newest log index that a node has told this client; every request asks for state at least
// that new.
func (c *Client) Index() uint64 { return c.index.Load() }

// Observe makes later requests ask for state at least as new as index, such as one that another client
// or another process wrote. A smaller index than the one known changes nothing.
func (c *Client) Observe(index uint64) {
	for {
		known := c.index.Load()
		if index <= known || c.index.CompareAndSwap(known, index) {
			return
		}
	}
}

func (c *Client) observe(header string) {
	if index, err := strconv.ParseUint(header, 10, 64); err == nil {
		c.Observe(index)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
