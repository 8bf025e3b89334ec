package outbound

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// keySet is a document as a parser of keys would make it: ids only.
type keySet map[string]bool

func parseKeySet(body []byte) (keySet, error) {
	var document struct {
		Keys []struct {
			KID string `json:"kid"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(body, &document); err != nil || len(document.Keys) == 0 {
		return nil, errors.New("it is no set of keys, or an empty one")
	}
	set := keySet{}
	for _, key := range document.Keys {
		set[key.KID] = true
	}
	return set, nil
}

// hands is a clock that is moved by hand.
type hands struct{ now atomic.Int64 }

func (h *hands) read() time.Time         { return time.Unix(0, h.now.Load()) }
func (h *hands) advance(d time.Duration) { h.now.Add(int64(d)) }

// issuerSite is an OpenID provider on loopback.
type issuerSite struct {
	*site
	keys     atomic.Value // string
	metadata atomic.Value // func() string
	fetched  sync.Map     // path → *atomic.Int64
}

func startIssuer(t *testing.T) *issuerSite {
	t.Helper()
	i := &issuerSite{}
	i.keys.Store(`{"keys":[{"kid":"one"}]}`)
	i.site = startSite(t, func(w http.ResponseWriter, r *http.Request) {
		counter, _ := i.fetched.LoadOrStore(r.URL.Path, new(atomic.Int64))
		counter.(*atomic.Int64).Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
			_, _ = io.WriteString(w, i.metadata.Load().(func() string)())
			return
		}
		_, _ = io.WriteString(w, i.keys.Load().(string))
	})
	i.metadata.Store(func() string { return fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/keys") })
	return i
}

func (i *issuerSite) count(path string) int64 {
	counter, ok := i.fetched.Load(path)
	if !ok {
		return 0
	}
	return counter.(*atomic.Int64).Load()
}

func keySourceOf(t *testing.T, c *Client, clock func() time.Time) *KeySource[keySet] {
	t.Helper()
	k, err := NewKeySource(KeySourceOptions[keySet]{Client: c, Parse: parseKeySet, Clock: clock, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return k
}

func TestKeysAreFoundThroughTheirIssuerAndFollowedWhenTheyRollOver(t *testing.T) {
	i := startIssuer(t)
	clock := &hands{}
	clock.advance(time.Hour)
	k := keySourceOf(t, clientOf(t, i.site), clock.read)
	for _, s := range []Source{{Issuer: i.URL}, {JWKSURI: i.URL + "/keys"}} {
		require.NoError(t, k.Check(s))
		doc, err := k.Get(t.Context(), s)
		require.NoError(t, err)
		require.Equal(t, keySet{"one": true}, doc.Value)
		require.JSONEq(t, i.keys.Load().(string), string(doc.Raw))
		require.Equal(t, i.URL+"/keys", doc.URL)
	}
	require.EqualValues(t, 1, i.count("/keys"), "one document for one URL, however it was found")

	i.keys.Store(`{"keys":[{"kid":"one"},{"kid":"two"}]}`)
	doc, err := k.Get(t.Context(), Source{Issuer: i.URL})
	require.NoError(t, err)
	_, err = k.Newer(t.Context(), Source{Issuer: i.URL}, doc)
	require.ErrorIs(t, err, ErrUnchanged)
	clock.advance(askAgain)
	doc, err = k.Newer(t.Context(), Source{Issuer: i.URL}, doc)
	require.NoError(t, err)
	require.True(t, doc.Value["two"])

	// The keys move to another URL: the metadata is asked for as well, and whoever comes next sees it.
	i.metadata.Store(func() string { return fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/moved") })
	i.keys.Store(`{"keys":[{"kid":"three"}]}`)
	clock.advance(askAgain)
	_, err = k.Newer(t.Context(), Source{Issuer: i.URL}, doc)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		doc, err = k.Newer(t.Context(), Source{Issuer: i.URL}, doc)
		return err == nil && doc.URL == i.URL+"/moved" && doc.Value["three"]
	}, 5*time.Second, time.Millisecond)
}

func TestManyCallersMakeOneRequest(t *testing.T) {
	i := startIssuer(t)
	k := keySourceOf(t, clientOf(t, i.site), nil)
	var all sync.WaitGroup
	failures := make(chan error, 50)
	for range 50 {
		all.Go(func() {
			doc, err := k.Get(t.Context(), Source{Issuer: i.URL})
			if err == nil && !doc.Value["one"] {
				err = errors.New("the document has no key")
			}
			failures <- err
		})
	}
	all.Wait()
	for range 50 {
		require.NoError(t, <-failures)
	}
	require.EqualValues(t, 1, i.count("/keys"))
	require.EqualValues(t, 1, i.count("/.well-known/openid-configuration"))
}

func TestRealOutageIsBridged(t *testing.T) {
	i := startIssuer(t)
	clock := &hands{}
	clock.advance(time.Hour)
	k := keySourceOf(t, clientOf(t, i.site), clock.read)
	_, err := k.Get(t.Context(), Source{Issuer: i.URL})
	require.NoError(t, err)
	i.Close()
	clock.advance(2 * time.Hour)
	doc, err := k.Get(t.Context(), Source{Issuer: i.URL})
	require.NoError(t, err)
	require.True(t, doc.Stale)
	require.True(t, doc.Value["one"])
	clock.advance(MaxStale)
	_, err = k.Get(t.Context(), Source{Issuer: i.URL})
	requireKind(t, err, KindConnect)
}

func TestDocumentThatCannotBeUsedLeavesTheLastOne(t *testing.T) {
	i := startIssuer(t)
	clock := &hands{}
	clock.advance(time.Hour)
	k := keySourceOf(t, clientOf(t, i.site), clock.read)
	s := Source{JWKSURI: i.URL + "/keys"}
	doc, err := k.Get(t.Context(), s)
	require.NoError(t, err)
	for kind, body := range map[Kind]string{KindDocument: `{"keys":[]}`, KindTooLarge: long(DefaultMaxBody + 1)} {
		i.keys.Store(body)
		clock.advance(maxBackoff)
		_, err = k.Newer(t.Context(), s, doc)
		requireKind(t, err, kind)
		_, err = k.Get(t.Context(), s)
		require.NoError(t, err)
	}
}

func TestMetadataOfAnIssuerIsHeldToIt(t *testing.T) {
	i := startIssuer(t)
	plain := func(o *Options) { o.AllowPlaintext = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }
	for says, metadata := range map[string]string{
		"not exactly the one configured": fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, i.URL+"/", i.URL+"/keys"),
		"no issuer":                      fmt.Sprintf(`{"Issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/keys"),
		"no jwks_uri":                    fmt.Sprintf(`{"issuer":%q,"jwks_uri":7}`, i.URL),
		"not a JSON object":              `[]`,
		"its jwks_uri":                   fmt.Sprintf(`{"issuer":%q,"jwks_uri":"https://10.0.0.1/keys"}`, i.URL),
		"metadata service":               fmt.Sprintf(`{"issuer":%q,"jwks_uri":"https://169.254.169.254/"}`, i.URL),
		"plain http, though":             fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, i.URL, strings.Replace(i.URL, "https", "http", 1)),
	} {
		t.Run(says, func(t *testing.T) {
			i.metadata.Store(func() string { return metadata })
			_, err := keySourceOf(t, clientOf(t, i.site, plain), nil).Get(t.Context(), Source{Issuer: i.URL})
			requireKind(t, err, KindDocument)
			require.ErrorContains(t, err, says)
		})
	}
	t.Run("a tenant's issuer has a path", func(t *testing.T) {
		tenant := i.URL + "/tenant"
		i.metadata.Store(func() string { return fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, tenant, tenant+"/keys") })
		k := keySourceOf(t, clientOf(t, i.site), nil)
		doc, err := k.Get(t.Context(), Source{Issuer: tenant})
		require.NoError(t, err)
		require.Equal(t, tenant+"/keys", doc.URL)
		require.EqualValues(t, 1, i.count("/tenant/.well-known/openid-configuration"))
		_, err = k.Get(t.Context(), Source{Issuer: i.URL})
		requireKind(t, err, KindDocument)
	})
}

func TestSourcesAreChecked(t *testing.T) {
	k := keySourceOf(t, clientOf(t, nil), nil)
	for says, s := range map[string]Source{
		"either a jwks_uri or an issuer": {},
		"either":                         {Issuer: "https://a.example", JWKSURI: "https://a.example"},
		"neither query nor fragment":     {Issuer: "https://a.example?b"},
		"plain http":                     {Issuer: "http://a.example"},
		"private":                        {JWKSURI: "https://10.0.0.1/"},
	} {
		require.ErrorContains(t, k.Check(s), says)
		_, err := k.Get(t.Context(), s)
		require.Error(t, err)
	}
	require.Equal(t, "https://a.example/.well-known/openid-configuration", wellKnown("https://a.example"))
	require.Equal(t, "https://a.example/.well-known/openid-configuration", wellKnown("https://a.example/"))
	require.Equal(t, "https://a.example/b/.well-known/openid-configuration", wellKnown("https://a.example/b/"))
}

func TestCacheControlIsRead(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"":                                   defaultFresh,
		"public":                             defaultFresh,
		"max-age=1800":                       30 * time.Minute,
		"public, MAX-AGE = 1800 , immutable": 30 * time.Minute,
		`max-age="1800"`:                     30 * time.Minute,
		"max-age=1800, max-age=60":           30 * time.Minute,
		"max-age=1":                          minFresh,
		"max-age=-1":                         defaultFresh,
		"max-age=x":                          defaultFresh,
		"max-age=99999999999":                defaultFresh,
		"max-age=86400":                      maxFresh,
		"no-store":                           minFresh,
		"max-age=1800, no-cache":             minFresh,
		"s-maxage=1800":                      defaultFresh,
	} {
		require.Equal(t, want, freshFor(http.Header{"Cache-Control": {value}}), value)
	}
	require.Equal(t, 5*time.Minute, freshFor(http.Header{"Cache-Control": {"public", "max-age=300"}}))
	require.Equal(t, 20*time.Minute, freshFor(http.Header{"Cache-Control": {"max-age=1800"}, "Age": {"600"}}), "time spent in a proxy counts")
	require.Equal(t, minFresh, freshFor(http.Header{"Cache-Control": {"max-age=1800"}, "Age": {"1800"}}))
}

func TestMetricsOfKeysTellWhatIsServed(t *testing.T) {
	i := startIssuer(t)
	clock := &hands{}
	clock.advance(time.Hour)
	registry := prometheus.NewRegistry()
	o := KeySourceOptions[keySet]{Client: clientOf(t, i.site), Parse: parseKeySet, Clock: clock.read, Registerer: registry, Logger: slog.New(slog.DiscardHandler)}
	k, err := NewKeySource(o)
	require.NoError(t, err)
	_, err = NewKeySource(o)
	require.ErrorContains(t, err, "registering", "two in one registry would count each other's")
	_, err = k.Get(t.Context(), Source{Issuer: i.URL})
	require.NoError(t, err)
	i.Close()
	clock.advance(2 * time.Hour)
	_, err = k.Get(t.Context(), Source{Issuer: i.URL})
	require.NoError(t, err)
	_, _ = k.Get(t.Context(), Source{JWKSURI: i.URL + "/more"})
	for _, document := range []string{documentKeys, documentProvider} {
		require.InDelta(t, 0, metric(t, registry, "deputy_keysource_documents", document, stateFresh), 0)
		require.InDelta(t, 1, metric(t, registry, "deputy_keysource_documents", document, stateStale), 0)
		require.InDelta(t, 7200, metric(t, registry, "deputy_keysource_oldest_seconds", document), 0)
	}
	require.InDelta(t, 1, metric(t, registry, "deputy_keysource_documents", documentKeys, stateMissing), 0)
	require.InDelta(t, 1, metric(t, registry, "deputy_keysource_fetches_total", documentKeys, outcomeOK), 0)
	require.InDelta(t, 2, metric(t, registry, "deputy_keysource_fetches_total", documentKeys, string(KindConnect)), 0)
	require.InDelta(t, 0, metric(t, registry, "deputy_keysource_fetches_total", documentKeys, string(KindAddress)), 0, "every series is there from the start")
}

func TestDocumentAtHandCostsNoAllocation(t *testing.T) {
	i := startIssuer(t)
	k := keySourceOf(t, clientOf(t, i.site), nil)
	for _, s := range []Source{{Issuer: i.URL}, {JWKSURI: i.URL + "/keys"}} {
		_, err := k.Get(t.Context(), s)
		require.NoError(t, err)
		ctx := t.Context()
		require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = k.Get(ctx, s) }))
	}
}
