package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

const (
	leasePath = revocationsPath + "/lease"

	// leaseQuestions is how often a lease is asked for within the time that the last one was granted for.
	leaseQuestions = 5
	// Bounds of the time between two questions, and of the time that a node may take to answer one.
	minQuestion, maxQuestion = 20 * time.Millisecond, 2 * time.Second
	// leaseBackoff is how often the wait doubles after questions in vain: to 640 ms.
	leaseBackoff = 5
	// maxClockBehind is how far this machine's wall clock may be behind a node's. Nodes keep a revocation for as long
	// as a token can live by any clock that is so far off, and no longer.
	maxClockBehind = 2 * time.Second
)

// holds reports whether a lease that was noted has not ended, by time or because it was taken back.
func (v *Validator) holds(l *lease) bool { return v.boot() < l.until && v.lease.Load().until != 0 }

func (v *Validator) remaining() time.Duration { return max(0, v.lease.Load().until-v.boot()) }

// renew asks for leases until ctx ends.
func (v *Validator) renew(ctx context.Context) {
	defer v.forfeit(errors.New("it does not run any more"))
	first, failed := 0, 0 // the node that answered last; questions in a row that were in vain
	for ctx.Err() == nil {
		granted, node, err := v.question(ctx, first)
		if err == nil {
			first = node
			err = v.take(ctx, granted)
		}
		v.mu.Lock()
		if v.leaseErr = err; err == nil {
			v.wake()
		}
		v.mu.Unlock()
		wait := granted.valid / leaseQuestions
		failed++
		if err == nil {
			failed = 0
		} else {
			v.logger.Debug("asking for a lease", "error", err)
			wait = minQuestion << min(failed, leaseBackoff)
		}
		if v.client.pause(ctx, min(max(wait, minQuestion), maxQuestion)) != nil {
			return
		}
	}
}

// grantedLease is a node's answer.
type grantedLease struct {
	wire.ValidatorLease
	valid time.Duration
	until time.Duration // boot time
}

// question asks one node after the other, from first on, and returns the answer and the number of the node that gave it.
func (v *Validator) question(ctx context.Context, first int) (granted grantedLease, node int, err error) {
	for i := range v.client.addresses {
		node = (first + i) % len(v.client.addresses)
		granted, err = v.ask(ctx, v.client.addresses[node])
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return granted, node, err
}

// ask asks one node. A node that does not answer must not use up the time in which another could.
func (v *Validator) ask(ctx context.Context, address *url.URL) (granted grantedLease, err error) {
	patience := maxQuestion
	if left := v.remaining(); left > 0 {
		patience = min(max(left/2, 5*minQuestion), maxQuestion)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String()+leasePath+"?seen="+strconv.FormatUint(v.index(), 10), nil)
	if err != nil {
		return granted, err
	}
	v.client.sign(request, v.who)
	request.Header.Del(wire.HeaderIndex) // the answer says how far one must be
	// Sent back with the answer, which proves that it is one to this question and to no earlier one.
	id := rand.Text()
	request.Header.Set(wire.HeaderRequestID, id)
	sent := v.boot()
	response, err := v.client.http.Do(request)
	if err != nil {
		return granted, fmt.Errorf("%s did not answer: %w", address, cause(err))
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, wire.MaxBodyBytes))
	if err != nil {
		return granted, fmt.Errorf("%s did not answer: %w", address, err)
	}
	if response.StatusCode != http.StatusOK {
		return granted, refusal(address.String(), response, text)
	}
	if response.Header.Get(wire.HeaderRequestID) != id {
		return granted, fmt.Errorf("the answer of %s is to another question: something on the way keeps answers", address)
	}
	if err := json.Unmarshal(text, &granted.ValidatorLease); err != nil {
		return granted, fmt.Errorf("the answer of %s is not what a node sends: %w", address, err)
	}
	if behind := granted.Time.Sub(identity.InstantOf(v.wall())); behind > maxClockBehind {
		return granted, fmt.Errorf("the clock of this machine is %s behind that of %s: set it by NTP", behind.Round(time.Millisecond), address)
	}
	granted.valid = time.Duration(granted.ValidFor * float64(time.Millisecond))
	granted.until = sent + granted.valid
	return granted, nil
}

// take makes the lease this validator's once it has everything that the node named. Where the stream does not bring that
// in time, it is the stream that is given up for another.
func (v *Validator) take(ctx context.Context, granted grantedLease) error {
	patience := time.NewTimer(min(granted.valid, maxQuestion))
	defer patience.Stop()
	for {
		v.mu.Lock()
		if v.at.log == granted.Log && v.at.index >= granted.Index {
			// Under the lock, so that a log that begins anew finds the lease and takes it back.
			if granted.until > v.lease.Load().until {
				v.lease.Store(&lease{until: granted.until})
			}
			v.mu.Unlock()
			return nil
		}
		moved, hangUp, at := v.moved, v.hangUp, v.at
		v.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			// While a snapshot is on its way nothing moves; that is no reason to begin again.
			if hangUp != nil && at.index > 0 {
				hangUp()
			}
			return fmt.Errorf("the stream has not brought what is needed for a lease: it is at index %d of %d", at.index, granted.Index)
		}
	}
}

// forfeit ends the lease before its time.
func (v *Validator) forfeit(why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leaseErr = why
	v.lease.Store(&lease{})
	v.wake()
}
