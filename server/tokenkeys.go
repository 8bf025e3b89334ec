package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

// nextSuffix is added to the name of the token key's file for the key that is to follow it.
const nextSuffix = ".next"

// tokenKeys are the keys that this node signs with: the one in use and, while a rotation is under way, the next.
//
// A rotation has these steps, each of which may be the last one before a crash:
//
//  1. the next key is made and stored beside the one in use;
//  2. its public half is committed;
//  3. every node that may speak has applied that;
//  4. it takes the place of the file of the key in use, by one rename, and signs from then on;
//  5. its own file is deleted, and the key before it is retired: it verifies until its last token has ended.
//
// Nothing but the two files and the log remembers how far a rotation came. A key is replaced by schedule, of which
// steps 1 and 2 are done at half its time so that verifiers elsewhere know it early; by wish; and at once where it
// was revoked, before which nothing is signed.
type tokenKeys struct {
	node   string
	path   string // of the key in use
	logger *slog.Logger

	facts   func() keyFacts
	publish func(ctx context.Context, key identity.SigningKey) error // nil once committed and applied here
	await   func(ctx context.Context, index uint64) error            // nil once every node that may speak has applied index
	retire  func(ctx context.Context, kid string) error
	use     func(*tokens.Signer) // signs from now on; nil: nothing does

	current atomic.Pointer[tokens.Signer]
	inUse   atomic.Bool    // the current key signs
	next    *tokens.Signer // of whoever calls step
}

// keyFacts is what the replicated state says of a node's token keys at one moment.
type keyFacts struct {
	index     uint64
	time      identity.Instant
	published map[string]identity.SigningKey // of this node, by kid
	revoked   func(kid string) (index uint64, committed, denied bool)
	wish      uint64        // index of the last wish for a new key
	period    time.Duration // of the schedule; 0: none
}

// open reads the key in use, or makes the first, and the next one if a rotation was under way.
func (k *tokenKeys) open() error {
	current, err := tokens.LoadOrCreateSigner(k.path)
	if err != nil {
		return err
	}
	k.current.Store(current)
	k.next, err = tokens.LoadSigner(k.path + nextSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if k.next != nil && k.next.KID() == current.KID() {
		return k.forgetNext() // it took the place already
	}
	return nil
}

// step brings the keys to where they should be, as far as it can. It returns nil when nothing is left to do, and
// is called again after an error. Only one call at a time.
func (k *tokenKeys) step(ctx context.Context) error {
	f := k.facts()
	current := k.current.Load()
	unfit := f.unfit(current)
	if unfit != "" {
		k.suspend(unfit)
		if _, committed, denied := f.revoked(current.KID()); denied && !committed {
			// By word of mouth, which the log confirms in a moment or which is forgotten.
			return fmt.Errorf("token key %s: its revocation is not committed yet", current.KID())
		}
	} else if !k.inUse.Load() {
		if err := k.begin(ctx, f, current); err != nil {
			return err
		}
		f, current = k.facts(), k.current.Load()
	}
	if err := k.dropUnfitNext(f, current); err != nil {
		return err
	}
	due, soon := k.due(f, current)
	due = due || unfit != ""
	if due || soon {
		if err := k.prepare(ctx, f); err != nil {
			return err
		}
	}
	if due {
		if err := k.replace(ctx); err != nil {
			return err
		}
	}
	return k.retireOthers(ctx)
}

// unfit says why a key must not sign, or "".
func (f *keyFacts) unfit(s *tokens.Signer) string {
	if _, _, denied := f.revoked(s.KID()); denied {
		return "it is revoked"
	}
	known, ok := f.published[s.KID()]
	switch {
	case ok && !known.Retired.IsZero():
		return "it is retired" // the file of an earlier key was put back
	case !ok && !s.Note().Since.IsZero():
		// The revocation of a key is forgotten once its last token has ended. A key that signed and is not known
		// any more must not come back, as it may be in wrong hands.
		return "it was dropped"
	}
	return ""
}

// due reports whether the current key is to be replaced now, and whether the next is to be made known.
func (k *tokenKeys) due(f keyFacts, current *tokens.Signer) (now, soon bool) {
	if f.wish > current.Note().Made {
		return true, true
	}
	since := current.Note().Since
	if f.period <= 0 || since.IsZero() {
		return false, false
	}
	return f.time >= since.Add(f.period), f.time >= since.Add(f.period/2)
}

// begin has the current key sign, once everybody knows it.
func (k *tokenKeys) begin(ctx context.Context, f keyFacts, current *tokens.Signer) error {
	if _, ok := f.published[current.KID()]; !ok {
		if err := k.publish(ctx, current.SigningKey(k.node, f.time)); err != nil {
			return fmt.Errorf("publishing the token key: %w", err)
		}
		f = k.facts()
	}
	if err := k.await(ctx, f.index); err != nil {
		return err
	}
	if note := current.Note(); note.Since.IsZero() {
		note.Since = f.time
		noted, err := current.Store(k.path, note)
		if err != nil {
			return err
		}
		current = noted
	}
	k.sign(current)
	return nil
}

// dropUnfitNext forgets a next key that must not be the one to follow: one that was made before the wish, or
// before the key in use was revoked, may be known to whoever gave cause for either.
func (k *tokenKeys) dropUnfitNext(f keyFacts, current *tokens.Signer) error {
	if k.next == nil {
		return nil
	}
	made := k.next.Note().Made
	revoked, _, _ := f.revoked(current.KID())
	if f.unfit(k.next) == "" && made >= revoked && (made >= f.wish || f.wish <= current.Note().Made) {
		return nil
	}
	k.logger.Info("a token key that was prepared is not used", "kid", k.next.KID())
	return k.forgetNext()
}

func (k *tokenKeys) forgetNext() error {
	if err := os.Remove(k.path + nextSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deleting a token key that is not needed: %w", err)
	}
	k.next = nil
	return nil
}

// prepare makes the next key and publishes it.
func (k *tokenKeys) prepare(ctx context.Context, f keyFacts) error {
	if k.next == nil {
		made, err := tokens.GenerateSigner()
		if err != nil {
			return err
		}
		if k.next, err = made.Store(k.path+nextSuffix, tokens.Note{Made: f.index}); err != nil {
			return err
		}
	}
	if _, ok := f.published[k.next.KID()]; ok {
		return nil
	}
	if err := k.publish(ctx, k.next.SigningKey(k.node, f.time)); err != nil {
		return fmt.Errorf("publishing the next token key: %w", err)
	}
	k.logger.Info("next token key published", "kid", k.next.KID())
	return nil
}

// replace has the next key sign in place of the current one.
func (k *tokenKeys) replace(ctx context.Context) error {
	if err := k.await(ctx, k.facts().index); err != nil {
		return err
	}
	f := k.facts()
	if why := f.unfit(k.next); why != "" {
		return fmt.Errorf("the next token key can't be used: %s", why)
	}
	current, err := k.next.Store(k.path, tokens.Note{Made: k.next.Note().Made, Since: f.time})
	if err != nil {
		return err
	}
	k.sign(current)
	return k.forgetNext()
}

func (k *tokenKeys) sign(s *tokens.Signer) {
	k.current.Store(s)
	k.use(s)
	k.inUse.Store(true)
	k.logger.Info("token key in use", "kid", s.KID())
}

func (k *tokenKeys) suspend(why string) {
	k.use(nil)
	if k.inUse.Swap(false) {
		k.logger.Warn("the token key may not sign any more; nothing is minted here until another is known everywhere", "kid", k.current.Load().KID(), "why", why)
	}
}

// retireOthers says of every other key of this node that it signs no more.
func (k *tokenKeys) retireOthers(ctx context.Context) error {
	for kid, key := range k.facts().published {
		if !key.Retired.IsZero() || kid == k.current.Load().KID() || (k.next != nil && kid == k.next.KID()) {
			continue
		}
		if err := k.retire(ctx, kid); err != nil {
			return fmt.Errorf("retiring token key %s: %w", kid, err)
		}
		k.logger.Info("token key retired: it verifies until its last token ends", "kid", kid)
	}
	return nil
}
