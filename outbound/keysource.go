package outbound

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Source says where a document of keys comes from. Exactly one field is set.
type Source struct {
	JWKSURI string // the URL of the document itself
	Issuer  string // an OpenID provider, whose metadata names that URL
}

// Getter fetches one document: a Client.
type Getter interface {
	GetJSON(ctx context.Context, url string) (*Response, error)
	CheckURL(url string) error
}

// KeySourceOptions are what a KeySource needs. Client and Parse are required.
type KeySourceOptions[T any] struct {
	Client Getter
	// Parse makes the value of a document's bytes. An error means that the document is not used; its text is shown to
	// operators and so must not quote the document. It is called without a lock, by several goroutines.
	Parse func(body []byte) (T, error)

	Clock      func() time.Time                        // nil: time.Now
	Jitter     func(below time.Duration) time.Duration // a random duration in [0, below); nil: math/rand
	Logger     *slog.Logger                            // nil: slog.Default
	Registerer prometheus.Registerer                   // nil: no metrics
}

// KeySource keeps documents of keys: one for each URL, fetched when first asked for, again before its time is over (as
// Cache-Control says, within 1 minute and 1 hour; 10 minutes if it says nothing), and again when a caller meets a key
// that is not in it, at most once in 30 seconds. Callers that want the same document share one request, wait 3 seconds
// at most, and are turned away when too many wait. After a failure a source is asked again after 2 seconds, then 4, up
// to 5 minutes, while its last document is served for up to MaxStale.
//
// Documents come and go with their use: 256 are kept, those last used longest ago give way, and one that nobody asked
// for during a day is dropped. Retain drops at once what is no longer configured.
//
// A KeySource is safe for concurrent use.
type KeySource[T any] struct {
	client    Getter
	clock     func() time.Time
	providers *cache[provider]
	keys      *cache[T]
	metrics   *keyMetrics
}

// NewKeySource makes a KeySource that knows nothing yet. It fetches on demand; Run has it fetch ahead.
func NewKeySource[T any](o KeySourceOptions[T]) (*KeySource[T], error) {
	if o.Client == nil || o.Parse == nil {
		return nil, errors.New("a source of keys needs a client and a parser")
	}
	shared := cacheOptions{clock: o.Clock, jitter: o.Jitter, logger: o.Logger}
	if shared.clock == nil {
		shared.clock = time.Now
	}
	if shared.jitter == nil {
		shared.jitter = randomBelow
	}
	if shared.logger == nil {
		shared.logger = slog.Default()
	}
	shared.logger = shared.logger.With("component", "keysource")
	k := &KeySource[T]{client: o.Client, clock: shared.clock}
	k.metrics = newKeyMetrics(k.tally)
	shared.fetches = k.metrics.of(documentProvider)
	k.providers = newCache(shared, func(ctx context.Context, issuer string) (Document[provider], time.Duration, error) {
		if err := checkIssuer(issuer, o.Client.CheckURL); err != nil {
			return Document[provider]{}, 0, err
		}
		return fetchDocument(ctx, o.Client, wellKnown(issuer), func(body []byte) (provider, error) {
			return parseProvider(issuer, body, o.Client.CheckURL)
		})
	})
	shared.fetches = k.metrics.of(documentKeys)
	k.keys = newCache(shared, func(ctx context.Context, url string) (Document[T], time.Duration, error) {
		return fetchDocument(ctx, o.Client, url, o.Parse)
	})
	if err := k.metrics.register(o.Registerer); err != nil {
		return nil, err
	}
	return k, nil
}

// Run fetches documents ahead of their end until the context ends, and returns nil when no fetch is under way any
// more. After that nothing is fetched. It is called once.
func (k *KeySource[T]) Run(ctx context.Context) error {
	var both sync.WaitGroup
	both.Go(func() { k.providers.run(ctx) })
	both.Go(func() { k.keys.run(ctx) })
	both.Wait()
	k.metrics.unregister()
	return nil
}

// Check says what is wrong with a source, as far as that shows without asking it.
func (k *KeySource[T]) Check(s Source) error {
	switch {
	case (s.JWKSURI == "") == (s.Issuer == ""):
		return errors.New("a source of keys is either a jwks_uri or an issuer")
	case s.Issuer != "":
		return checkIssuer(s.Issuer, k.client.CheckURL)
	}
	return k.client.CheckURL(s.JWKSURI)
}

// Get returns the newest document of a source. One that is at hand comes at once; otherwise Get waits for it, at most 3
// seconds. Errors: an *Error says why the source gave none, ErrBusy and ErrFull that this node has too much to do. None
// of them means that a key does not exist.
//
// The source must be one that is configured: whoever may name it freely may have this node speak to any public address.
func (k *KeySource[T]) Get(ctx context.Context, s Source) (Document[T], error) {
	deadline := k.clock().Add(maxWait)
	url, err := k.locate(ctx, s, deadline)
	if err != nil {
		return Document[T]{}, err
	}
	return k.keys.get(ctx, url, deadline)
}

// Newer is for a caller who holds a document and misses a key in it. It returns one that came after it, which may have
// been fetched by others meanwhile; otherwise the source is asked, unless that was done less than 30 seconds ago. The
// error ErrUnchanged says that the source has answered and has nothing newer: the key is unknown. Any other error leaves
// that open.
func (k *KeySource[T]) Newer(ctx context.Context, s Source, than Document[T]) (Document[T], error) {
	deadline := k.clock().Add(maxWait)
	url, err := k.locate(ctx, s, deadline)
	if err != nil {
		return Document[T]{}, err
	}
	if url != than.URL {
		return k.keys.get(ctx, url, deadline)
	}
	if s.Issuer != "" {
		k.providers.hasten(s.Issuer) // the keys may have moved; a later caller will see
	}
	return k.keys.newer(ctx, url, than.serial, deadline)
}

// locate finds the URL of a source's keys.
func (k *KeySource[T]) locate(ctx context.Context, s Source, deadline time.Time) (string, error) {
	if s.Issuer == "" {
		if s.JWKSURI == "" {
			return "", k.Check(s)
		}
		return s.JWKSURI, nil
	}
	if s.JWKSURI != "" {
		return "", k.Check(s)
	}
	p, err := k.providers.get(ctx, s.Issuer, deadline)
	if err != nil {
		return "", err
	}
	return p.Value.jwksURI, nil
}

// Retain drops every document that belongs to no source which keep wants. It is called when the configuration has
// changed, and calls keep for at most 512 sources, under a lock: keep must not call back.
func (k *KeySource[T]) Retain(keep func(Source) bool) {
	k.providers.retain(func(issuer string) bool { return keep(Source{Issuer: issuer}) })
	named := make(map[string]bool)
	k.providers.each(func(e *entry[provider], _ time.Time) { named[e.doc.Value.jwksURI] = true })
	k.keys.retain(func(url string) bool { return named[url] || keep(Source{JWKSURI: url}) })
}

// SourceStatus is what an operator may want to know of one document.
type SourceStatus struct {
	Source    Source        // Issuer for a provider's metadata, JWKSURI for keys
	FetchedAt time.Time     // zero: never
	Fresh     time.Duration // for how long from then it is used without asking again
	Next      time.Time     // when it is asked for again
	Failures  int           // since it was last fetched
	Err       error         // of the last attempt, if that failed
}

// Status describes every document that is kept, in no order.
func (k *KeySource[T]) Status() []SourceStatus {
	var all []SourceStatus
	k.providers.each(func(e *entry[provider], _ time.Time) { all = append(all, e.status(Source{Issuer: e.key})) })
	k.keys.each(func(e *entry[T], _ time.Time) { all = append(all, e.status(Source{JWKSURI: e.key})) })
	return all
}

func (e *entry[V]) status(s Source) SourceStatus {
	return SourceStatus{Source: s, FetchedAt: e.doc.FetchedAt, Fresh: e.fresh, Next: e.due, Failures: e.failures, Err: e.err}
}

// fetchDocument fetches and parses one document and says how long it is fresh.
func fetchDocument[V any](ctx context.Context, client Getter, url string, parse func([]byte) (V, error)) (Document[V], time.Duration, error) {
	answer, err := client.GetJSON(ctx, url)
	if err != nil {
		return Document[V]{}, 0, err
	}
	value, err := parse(answer.Body)
	if err != nil {
		return Document[V]{}, 0, &Error{Kind: KindDocument, Host: hostOf(url), Err: err}
	}
	return Document[V]{Value: value, Raw: answer.Body, URL: url}, freshFor(answer.Header), nil
}

func randomBelow(n time.Duration) time.Duration {
	if n <= 0 {
		return 0
	}
	return rand.N(n)
}

// tally counts documents by state and gives the age of the oldest of them, in seconds.
func (k *KeySource[T]) tally(document string) (map[string]int, float64) {
	var oldest time.Duration
	states := map[string]int{stateFresh: 0, stateStale: 0, stateMissing: 0}
	if document == documentProvider {
		k.providers.each(func(e *entry[provider], now time.Time) { e.tally(now, states, &oldest) })
	} else {
		k.keys.each(func(e *entry[T], now time.Time) { e.tally(now, states, &oldest) })
	}
	return states, oldest.Seconds()
}

func (e *entry[V]) tally(now time.Time, states map[string]int, oldest *time.Duration) {
	switch {
	case !e.usable(now):
		states[stateMissing]++
		return
	case age(now, e.doc.FetchedAt) < e.fresh:
		states[stateFresh]++
	default:
		states[stateStale]++
	}
	*oldest = max(*oldest, age(now, e.doc.FetchedAt))
}
