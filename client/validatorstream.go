package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

const (
	// sweepEvery is how often handles are forgotten that were denied and never committed.
	sweepEvery = time.Second
	// purgeRounds bounds the forgetting of what has expired. A large set is swept in parts, and what is left the next
	// purge finds.
	purgeRounds = 8
)

// Run follows the keys and the stream and renews the lease until ctx ends, and returns nil then. What goes wrong
// meanwhile it tries again for as long as that takes; Validate and State say what it is.
func (v *Validator) Run(ctx context.Context) error {
	if !v.running.CompareAndSwap(false, true) {
		return errors.New("the validator runs already")
	}
	defer v.running.Store(false)
	var all sync.WaitGroup
	all.Go(func() { v.follow(ctx) })
	all.Go(func() { v.renew(ctx) })
	all.Go(func() { v.keys.keep(ctx, v.index, v.logger) })
	all.Go(func() { v.sweep(ctx) })
	all.Wait()
	return nil
}

// follow reads one node's stream after the other.
func (v *Validator) follow(ctx context.Context) {
	var failed failures
	for n := int(v.client.preferred.Load()); ctx.Err() == nil; n++ {
		address := v.client.addresses[n%len(v.client.addresses)]
		stream, hangUp := context.WithCancel(ctx)
		v.mu.Lock()
		v.hangUp = hangUp
		at := v.at
		v.mu.Unlock()
		err := v.client.follow(stream, address, v.who, &at, func(e *RevocationEvent) error {
			failed.heard(e)
			v.apply(address.String(), e, at)
			return nil
		})
		hangUp()
		v.mu.Lock()
		v.hangUp, v.following, v.streamErr = nil, "", err
		v.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		wait := failed.pause(len(v.client.addresses), err)
		v.logger.Debug("the revocation stream ended", "node", address, "error", err, "again_in", wait)
		if v.client.pause(ctx, wait) != nil {
			return
		}
	}
}

// apply takes an event into the set, and only then says how far that has come.
func (v *Validator) apply(node string, e *RevocationEvent, at position) {
	for i := range e.Entries {
		h := &e.Entries[i]
		v.set.Add(revocation.Entry{Handle: h.Handle, Expires: h.ExpiresAt, Provisional: h.Provisional})
	}
	if !e.Before.IsZero() {
		for range purgeRounds {
			if v.set.Purge(e.Before) == 0 {
				break
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.Type == wire.EventOpen {
		v.following, v.streamErr = node, nil
		if v.at.log != "" && v.at.log != at.log {
			// What was revoked in the old log stays so here. But what the new one has revoked is not known yet, and
			// the keys of the old one may be worth nothing.
			v.lease.Store(&lease{})
			v.keys.forget()
		}
	}
	if v.at != at {
		v.at = at
		v.wake()
	}
}

// wake lets those look again who wait for the set or the lease. The caller holds mu.
func (v *Validator) wake() {
	close(v.moved)
	v.moved = make(chan struct{})
}

// index is up to where everything is known.
func (v *Validator) index() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.at.index
}

// sweep forgets what was only denied ahead of the log and not repeated, as the nodes do.
func (v *Validator) sweep(ctx context.Context) {
	for v.client.pause(ctx, sweepEvery) == nil {
		v.set.PurgeProvisional(identity.InstantOf(v.wall()))
	}
}
