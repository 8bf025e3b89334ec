package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

const (
	jwksPath     = "/.well-known/jwks.json"
	metadataPath = "/.well-known/oauth-authorization-server"

	// keysEvery is how often the keys are asked for. A new one is known at the nodes before it is used, so that this
	// is only for what none of the tokens has named so far.
	keysEvery = 30 * time.Second
	// keysPause bounds how often they are asked for because a token names one that is not known: whoever makes up keys
	// must not have this process ask for them without end.
	keysPause = time.Second
	// keysWait is how long one node may take to answer.
	keysWait = 2 * time.Second
	// maxKeys bounds a key set, as the nodes do, and maxDocument its text.
	maxKeys, maxDocument = 10_000, 4 << 20
)

// issuerKeys are the public keys of all nodes, and the issuer that they sign for.
type issuerKeys struct {
	client *Client
	fixed  string // issuer that was configured; "" where it is the nodes' to say
	latest atomic.Pointer[keySet]
	kick   chan struct{} // asks keep to ask at once

	mu      sync.Mutex
	era     int           // counts how often they were forgotten
	round   *keyRound     // under way; nil where none is
	began   time.Time     // when the last one did
	failed  error         // why the last one came to nothing
	changed chan struct{} // closed when latest changes
}

// keySet is what the nodes answered at one moment. It is never changed.
type keySet struct {
	ring   *tokens.Keyring // nil: nothing is known
	issuer string
	etag   string
}

// keyRound is one time of asking, which all share who want it meanwhile.
type keyRound struct {
	done chan struct{}
	err  error
}

func newIssuerKeys(c *Client, issuer string) *issuerKeys {
	k := &issuerKeys{client: c, fixed: issuer, kick: make(chan struct{}, 1), changed: make(chan struct{})}
	k.latest.Store(&keySet{})
	return k
}

func (k *issuerKeys) ring() *tokens.Keyring { return k.latest.Load().ring }
func (k *issuerKeys) issuer() string        { return k.latest.Load().issuer }

// known reports whether keys have been heard of.
func (k *issuerKeys) known() bool { return k.latest.Load().ring != nil }

// why says why they have not.
func (k *issuerKeys) why() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed != nil {
		return "the nodes' keys could not be asked for: " + k.failed.Error()
	}
	return "the nodes' keys are being asked for"
}

// next is closed when the keys change.
func (k *issuerKeys) next() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

// forget drops the keys. They are asked for again at once, and what was asked for before counts for nothing.
func (k *issuerKeys) forget() {
	k.mu.Lock()
	k.era++
	k.put(&keySet{})
	k.mu.Unlock()
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// put makes a set the latest. The caller holds mu.
func (k *issuerKeys) put(s *keySet) {
	k.latest.Store(s)
	close(k.changed)
	k.changed = make(chan struct{})
}

// keep asks for the keys now and then until ctx ends.
func (k *issuerKeys) keep(ctx context.Context, index func() uint64, logger *slog.Logger) {
	for {
		wait := keysEvery
		if err := k.refresh(ctx, index()); err != nil && !errors.Is(err, errAskedLately) {
			logger.Debug("asking for the keys", "error", err)
			wait = keysPause
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-k.kick:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// errAskedLately says that the keys may be older than the question.
var errAskedLately = errors.New("they were asked for a moment ago, and are not again so soon")

// refresh asks the nodes for their keys. It returns nil if a node that can vouch for its own, and has come to the index,
// has answered a question that was put after this call.
func (k *issuerKeys) refresh(ctx context.Context, index uint64) error {
	k.mu.Lock()
	round, mine := k.round, false
	if round == nil {
		if k.known() && time.Since(k.began) < keysPause {
			k.mu.Unlock()
			return errAskedLately
		}
		round, mine = &keyRound{done: make(chan struct{})}, true
		k.round, k.began = round, time.Now()
		era := k.era
		// On its own: whoever gives up first must not take it from the others.
		go k.ask(context.WithoutCancel(ctx), round, era, index)
	}
	k.mu.Unlock()
	select {
	case <-round.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if round.err == nil && !mine {
		return errAskedLately
	}
	return round.err
}

// ask is one round.
func (k *issuerKeys) ask(ctx context.Context, round *keyRound, era int, index uint64) {
	before := k.latest.Load()
	latest, err := k.fetch(ctx, before, index)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.era != era:
		err = errors.New("they have been forgotten meanwhile")
	case err == nil && latest != before:
		k.put(latest)
	}
	round.err, k.failed, k.round = err, err, nil
	close(round.done)
}

// fetch asks one node after the other.
func (k *issuerKeys) fetch(ctx context.Context, before *keySet, index uint64) (latest *keySet, err error) {
	first := int(k.client.preferred.Load())
	for i := range k.client.addresses {
		address := k.client.addresses[(first+i)%len(k.client.addresses)]
		if latest, err = k.fetchFrom(ctx, address, before, index); err == nil {
			return latest, nil
		}
		err = fmt.Errorf("%s: %w", address, err)
	}
	return nil, err
}

func (k *issuerKeys) fetchFrom(ctx context.Context, address *url.URL, before *keySet, index uint64) (*keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	next := *before
	if next.issuer = k.fixed; next.issuer == "" {
		var metadata wire.Metadata
		if _, err := k.client.document(ctx, address, metadataPath, "", 0, &metadata); err != nil {
			return nil, err
		}
		if next.issuer = metadata.Issuer; next.issuer == "" {
			return nil, errors.New("it does not know its issuer yet")
		}
	}
	var published wire.JWKS
	etag, err := k.client.document(ctx, address, jwksPath, before.etag, index, &published)
	switch {
	case errors.Is(err, errUnchanged):
	case err != nil:
		return nil, err
	default:
		if next.ring, err = keyring(published.Keys); err != nil {
			return nil, err
		}
		next.etag = etag
	}
	if next == *before {
		return before, nil
	}
	return &next, nil
}

// keyring makes a keyring of those published keys that tokens are signed with. Others may be there one day.
func keyring(published []wire.JWK) (*tokens.Keyring, error) {
	if len(published) > maxKeys {
		return nil, fmt.Errorf("it has %d keys; at most %d are allowed", len(published), maxKeys)
	}
	var keys []identity.SigningKey
	for _, key := range published {
		if key.KeyType != "OKP" || key.Curve != "Ed25519" {
			continue
		}
		public, err := base64.RawURLEncoding.DecodeString(key.X)
		if err != nil {
			return nil, fmt.Errorf("its key %.64q is not base64url", key.KeyID)
		}
		keys = append(keys, identity.SigningKey{KID: key.KeyID, Alg: "EdDSA", Public: public})
	}
	ring, _ := tokens.NewKeyring(keys) // one that is of no use must not take the others down
	return ring, nil
}

var errUnchanged = errors.New("unchanged")

// document reads a public JSON document of a node that can vouch for it and has come to the index.
func (c *Client) document(ctx context.Context, address *url.URL, path, etag string, index uint64, out any) (newTag string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String()+path, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("User-Agent", c.userAgent)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Cache-Control", "no-cache") // what somebody on the way has kept must be asked for again
	if etag != "" {
		request.Header.Set("If-None-Match", etag)
	}
	if index > 0 {
		request.Header.Set(wire.HeaderIndex, strconv.FormatUint(index, 10))
	}
	response, err := c.http.Do(request)
	if err != nil {
		return "", cause(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	switch {
	case err != nil:
		return "", err
	case response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNotModified:
		return "", refusal(address.String(), response, text)
	case response.Header.Get(wire.HeaderFresh) == "false":
		return "", errors.New("it can't vouch for what it knows right now")
	case response.StatusCode == http.StatusNotModified:
		return "", errUnchanged
	case len(text) > maxDocument:
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxDocument)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return "", fmt.Errorf("%s is not what a node sends: %w", path, err)
	}
	return response.Header.Get("Etag"), nil
}
