package api

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/outbound"
	"github.com/deputy-id/deputy/proofs"
)

// RemoteKeys are public keys that others publish: those at a jwks_uri, or of an OpenID Connect issuer.
type RemoteKeys interface {
	// Get returns what is known of a source, or asks it.
	Get(ctx context.Context, s outbound.Source) (outbound.Document[*proofs.Keys], error)
	// Newer asks a source again for a key that the document lacks; outbound.ErrUnchanged says that there is none.
	Newer(ctx context.Context, s outbound.Source, than outbound.Document[*proofs.Keys]) (outbound.Document[*proofs.Keys], error)
}

// keySets are the sets of keys that something may have been signed with, each registered here or published elsewhere.
type keySets struct {
	sets    []*proofs.Keys
	sources []outbound.Source // of the published ones; zero for those that were registered
	have    []outbound.Document[*proofs.Keys]
	missing error // why a published set could not be had, if one could not
}

// add puts a set beside the others. One that can't be had is left out and noted.
func (a *API) add(k *keySets, registered string, published outbound.Source) error {
	set, document := (*proofs.Keys)(nil), outbound.Document[*proofs.Keys]{}
	if registered != "" {
		var err error
		if set, err = a.parsedKeys.of(registered); err != nil {
			return err
		}
		published = outbound.Source{}
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), keysWait)
		defer cancel()
		var err error
		if document, err = a.RemoteKeys.Get(ctx, published); err != nil {
			k.missing = keysUnavailable(published, err)
		}
		set = document.Value
	}
	k.sets, k.sources, k.have = append(k.sets, set), append(k.sources, published), append(k.have, document)
	return nil
}

// verify has the sets judge something that was signed. Where none of them has the key, those that are published are asked
// for once more: the owner may have made a new one. A key that is not known is only unknown where all sets could be had.
func (a *API) verify(k *keySets, by func(sets []*proofs.Keys) error) error {
	err := by(k.sets)
	if proofs.ReasonOf(err) == proofs.ReasonUnknownKey && a.renew(k) {
		err = by(k.sets)
	}
	switch proofs.ReasonOf(err) {
	case proofs.ReasonUnknownKey, proofs.ReasonSignature, proofs.ReasonAlgorithm:
		if k.missing != nil {
			return k.missing
		}
	}
	return err
}

// renew reports whether any of the published sets is another one now.
func (a *API) renew(k *keySets) (changed bool) {
	ctx, cancel := context.WithTimeout(context.Background(), keysWait)
	defer cancel()
	for i, source := range k.sources {
		if source == (outbound.Source{}) || k.sets[i] == nil {
			continue
		}
		newer, err := a.RemoteKeys.Newer(ctx, source, k.have[i])
		switch {
		case err == nil:
			k.sets[i], k.have[i], changed = newer.Value, newer, true
		case !errors.Is(err, outbound.ErrUnchanged):
			k.missing = keysUnavailable(source, err)
		}
	}
	return changed
}

// keysUnavailable keeps "can't tell" from becoming "is wrong".
func keysUnavailable(s outbound.Source, err error) error {
	where := s.JWKSURI
	if where == "" {
		where = s.Issuer
	}
	return identity.Errorf(identity.CodeKeysUnavailable, "the public keys of %.300q can't be had right now", where).
		WithHint("try again in a moment; this node's metrics and log say why").WithCause(err)
}

// maxParsedKeys bounds the sets that are kept parsed: some kilobytes each, for the clients that call often.
const maxParsedKeys = 4096

// parsedKeys remembers what registered key sets say, by their text: a text never comes to mean anything else.
type parsedKeys struct {
	mu   sync.RWMutex
	sets map[string]*proofs.Keys
}

func (p *parsedKeys) of(text string) (*proofs.Keys, error) {
	p.mu.RLock()
	keys, ok := p.sets[text]
	p.mu.RUnlock()
	if ok {
		return keys, nil
	}
	keys, err := proofs.ParseKeys([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("reading a registered set of keys: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sets == nil {
		p.sets = make(map[string]*proofs.Keys)
	}
	if len(p.sets) >= maxParsedKeys {
		for other := range p.sets { // any one
			delete(p.sets, other)
			break
		}
	}
	p.sets[text] = keys
	return keys, nil
}
