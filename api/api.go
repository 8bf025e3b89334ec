// Package api is the public surface of a node: the OAuth endpoints and the admin API, over fasthttp.
//
// There is one route table (routes.go). The router, authentication, the OpenAPI document and the metrics are
// all made from it, so that none of them can speak of a route that the others don't know.
//
// A request is served from one fsm.View, taken once, so that it sees one consistent state. Minting and
// introspection are local and write nothing; everything else that changes state is a command, proposed at
// the leader: a follower forwards the client's whole request, once, with the client's own credential, which
// the leader checks again (forward.go).
package api

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/router"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/proofs"
	"github.com/deputy-id/deputy/revocation"
	"github.com/deputy-id/deputy/tokens"
)

// Limits bounds what callers may ask. The zero value is the default.
type Limits struct {
	RequestsPerSecond     int           // per caller; 0: no limit
	Burst                 int           // requests that a caller may save up; 0: two seconds' worth
	ConnectionsPerAddress int           // 0: no limit
	Connections           int           // in all; 0: 256 Ki, as fasthttp has it
	ReadTimeout           time.Duration // of a whole request; 0: 10 s
	WriteTimeout          time.Duration // of a whole answer; 0: 30 s
	IdleTimeout           time.Duration // of a connection between requests; 0: 120 s
}

// Options are what the surface is built from. All but the marked ones are needed.
type Options struct {
	Proposer    Proposer
	FSM         *fsm.FSM
	Policy      *policy.Engine
	Minter      *tokens.Minter
	Verifier    *tokens.Verifier
	Revocations tokens.Checker
	Journal     *revocation.Journal // of what Revocations asks
	Keys        func() *tokens.Keyring
	Freshness   Freshness
	Cluster     Cluster
	Denials     Denials
	RemoteKeys  RemoteKeys
	Sessions    Sessions
	PolicyHits  PolicyHitsAsker
	Audit       Auditor
	Trail       Trail
	NodeID      string

	Clock      func() time.Time      // optional: time.Now
	Entropy    io.Reader             // optional: crypto/rand
	Logger     *slog.Logger          // optional: nothing is logged
	Registerer prometheus.Registerer // optional: a registry of its own
	Limits     Limits                // optional
	// Introspections says which are recorded. Optional: those that name a tool.
	Introspections Introspections
	// UnrecordedAnswers has answers go out whose record can't be written; they are counted. Optional: there is none then.
	UnrecordedAnswers bool
	// TrustedProxies are the peers whose X-Forwarded-For is believed. Optional: none.
	TrustedProxies []netip.Prefix
	Version        string // optional; shown in the OpenAPI document
}

func (o *Options) validate() error {
	missing := func(absent bool, name string) error {
		if absent {
			return errors.New("api: Options." + name + " is missing")
		}
		return nil
	}
	return errors.Join(
		missing(o.Proposer == nil, "Proposer"), missing(o.FSM == nil, "FSM"), missing(o.Policy == nil, "Policy"),
		missing(o.Minter == nil, "Minter"), missing(o.Verifier == nil, "Verifier"),
		missing(o.Revocations == nil, "Revocations"), missing(o.Journal == nil, "Journal"), missing(o.Keys == nil, "Keys"),
		missing(o.Freshness == nil, "Freshness"), missing(o.Cluster == nil, "Cluster"),
		missing(o.Denials == nil, "Denials"), missing(o.RemoteKeys == nil, "RemoteKeys"), missing(o.Sessions == nil, "Sessions"),
		missing(o.PolicyHits == nil, "PolicyHits"),
		missing(o.Audit == nil, "Audit"), missing(o.Trail == nil, "Trail"),
	)
}

// API serves the public surface of one node.
type API struct {
	Options
	proposer   Proposer
	logger     *slog.Logger
	metrics    *metrics
	limiter    *limiter // nil: no limit
	waiting    waiters
	readWait   time.Duration // tests may have more patience
	backups    waiters
	restores   waiters
	asking     waiters // questions to all nodes about sessions
	trails     waiters // those about the audit trail
	strangers  *strangers
	polling    waiters // requests that wait for a human
	paces      paces
	standings  standings
	streams    *streams
	settings   sync.Mutex // held while they are changed here
	started    identity.Instant
	replay     *proofs.Replay
	nonces     *proofs.Nonces
	parsedKeys parsedKeys
	urls       atomic.Pointer[accepted]
	routes     []Route
	router     *router.Router
	openapi    func() (description, error) // made when it is first asked for
	calls      callPool
	policies   policy.Cache // as of the states that are being read
	hits       hitCounter   // of policies, at this node
}

// maxOneTimeProofs bounds the client assertions and DPoP proofs that are remembered, for minutes each: enough for 8,000
// requests a second that prove themselves so, in at most 128 MB.
const maxOneTimeProofs = 2 << 20

// New builds the surface. It starts nothing.
func New(o Options) (*API, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Entropy == nil {
		o.Entropy = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	a := &API{Options: o, proposer: o.Proposer, logger: o.Logger, routes: Routes(), readWait: readWait}
	a.strangers = newStrangers(a)
	a.limiter = newLimiter(o.Limits.RequestsPerSecond, o.Limits.Burst)
	// Clients count in whole seconds. A process that another has gone before serves nobody within its first one: it waits
	// for a lease.
	a.started, a.replay = a.now()/1000*1000, proofs.NewReplay(maxOneTimeProofs)
	var key [32]byte
	if _, err := io.ReadFull(o.Entropy, key[:]); err != nil {
		return nil, fmt.Errorf("drawing the key of nonces: %w", err)
	}
	a.nonces = proofs.NewNonces(o.NodeID, key)
	m, err := newMetrics(o.Registerer, a.routes)
	if err != nil {
		return nil, err
	}
	a.metrics = m
	if a.streams, err = newStreams(o.Registerer); err != nil {
		return nil, err
	}
	a.openapi = sync.OnceValues(func() (description, error) { return describe(a.routes, o.Version) })
	a.router = a.newRouter()
	a.policies.Compiled = a.notePolicies
	if err := o.Registerer.Register(&a.hits); err != nil {
		return nil, fmt.Errorf("registering the hits of policies: %w", err)
	}
	return a, nil
}

// Handler serves every route.
func (a *API) Handler() fasthttp.RequestHandler { return a.router.Handler }

func (a *API) newRouter() *router.Router {
	r := router.New()
	// A redirect would have clients repeat a body, or a credential, at a path they did not mean.
	r.RedirectTrailingSlash, r.RedirectFixedPath = false, false
	for i := range a.routes {
		route := &a.routes[i]
		handler := a.serve(route)
		r.Handle(route.Method, route.Path, handler)
		if route.Method == fasthttp.MethodGet {
			r.HEAD(route.Path, handler) // fasthttp leaves the body out
		}
	}
	r.GlobalOPTIONS = func(ctx *fasthttp.RequestCtx) { a.serve(&routeOptions)(ctx) }
	r.NotFound = a.serve(&routeNotFound)
	r.MethodNotAllowed = a.serve(&routeMethodNotAllowed)
	return r
}

// now reads the clock.
func (a *API) now() identity.Instant { return identity.InstantOf(a.Clock()) }
