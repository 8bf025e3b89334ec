package server

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

// keyWorld is the cluster as a node's token keys see it. It outlives the node's crashes.
type keyWorld struct {
	t         *testing.T
	path      string
	index     uint64
	time      identity.Instant
	published map[string]identity.SigningKey
	everybody map[string]bool // kids that every node has applied
	denied    map[string]bool
	revoked   map[string]uint64
	wish      uint64
	period    time.Duration

	crash map[string]bool // at the named effect the node dies, once
	lost  map[string]bool // the named effect takes place, and then the node dies, once

	signing string   // kid that the node signs with; "" after a crash
	used    []string // every key that ever signed, in order
}

var errCrash = errors.New("the node has died")

func newKeyWorld(t *testing.T) *keyWorld {
	return &keyWorld{
		t: t, path: filepath.Join(t.TempDir(), "token.key"), index: 10, time: 1_000_000,
		published: map[string]identity.SigningKey{}, everybody: map[string]bool{}, denied: map[string]bool{},
		revoked: map[string]uint64{}, crash: map[string]bool{}, lost: map[string]bool{},
	}
}

func (w *keyWorld) effect(name string, do func()) error {
	if w.crash[name] {
		delete(w.crash, name)
		return errCrash
	}
	do()
	if w.lost[name] {
		delete(w.lost, name)
		return errCrash
	}
	return nil
}

// start is the node as it comes up from its folder.
func (w *keyWorld) start() *tokenKeys {
	w.t.Helper()
	w.signing = ""
	k := &tokenKeys{
		node: "n1", path: w.path, logger: slog.New(slog.DiscardHandler),
		facts: func() keyFacts {
			copied := map[string]identity.SigningKey{}
			for kid, key := range w.published {
				copied[kid] = key
			}
			return keyFacts{
				index: w.index, time: w.time, published: copied, wish: w.wish, period: w.period,
				revoked: func(kid string) (uint64, bool, bool) {
					index, committed := w.revoked[kid]
					return index, committed, committed || w.denied[kid]
				},
			}
		},
		publish: func(_ context.Context, key identity.SigningKey) error {
			return w.effect("publish", func() {
				require.NotContains(w.t, w.revoked, key.KID, "a revoked key was published")
				w.index++
				w.published[key.KID] = key
			})
		},
		await: func(_ context.Context, index uint64) error {
			return w.effect("await", func() {
				require.LessOrEqual(w.t, index, w.index)
				for kid := range w.published {
					w.everybody[kid] = true
				}
			})
		},
		retire: func(_ context.Context, kid string) error {
			return w.effect("retire", func() {
				require.NotEqual(w.t, w.signing, kid, "the key in use was retired")
				w.index++
				key := w.published[kid]
				key.Retired = w.time
				w.published[kid] = key
			})
		},
		use: func(s *tokens.Signer) {
			if s == nil {
				w.signing = ""
				return
			}
			if w.crash["use"] {
				delete(w.crash, "use")
				panic(errCrash)
			}
			require.True(w.t, w.everybody[s.KID()], "a key signs that not every node knows")
			require.NotContains(w.t, w.revoked, s.KID())
			if w.signing != s.KID() && (len(w.used) == 0 || w.used[len(w.used)-1] != s.KID()) {
				w.used = append(w.used, s.KID())
			}
			w.signing = s.KID()
			if w.lost["use"] {
				delete(w.lost, "use")
				panic(errCrash)
			}
		},
	}
	require.NoError(w.t, k.open())
	return k
}

// step steps once; a crash is reported as such.
func (w *keyWorld) step(k *tokenKeys) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errCrash
		}
	}()
	return k.step(w.t.Context())
}

// run brings the node up, again after each crash, until nothing is left to do.
func (w *keyWorld) run() *tokenKeys {
	w.t.Helper()
	for range 10 {
		if k := w.start(); w.step(k) == nil {
			return k
		}
	}
	require.FailNow(w.t, "the rotation never ends")
	return nil
}

// settled asserts that one key signs and nothing else is left over.
func (w *keyWorld) settled() {
	w.t.Helper()
	require.NotEmpty(w.t, w.signing)
	require.NoFileExists(w.t, w.path+nextSuffix)
	for kid, key := range w.published {
		require.Equal(w.t, kid == w.signing, key.Retired.IsZero(), "only the key in use is not retired")
	}
	stored, err := tokens.LoadSigner(w.path)
	require.NoError(w.t, err)
	require.Equal(w.t, w.signing, stored.KID())
}

func TestFirstTokenKeySignsOnceEverybodyKnowsIt(t *testing.T) {
	w := newKeyWorld(t)
	w.run()
	w.settled()
	require.Len(t, w.used, 1)

	w.run() // a restart
	w.settled()
	require.Len(t, w.used, 1, "the key outlives the process")
}

func TestWishForANewTokenKeyIsServedOnce(t *testing.T) {
	w := newKeyWorld(t)
	k := w.run()
	first := w.signing
	w.index++
	w.wish = w.index

	require.NoError(t, w.step(k))

	w.settled()
	require.NotEqual(t, first, w.signing)
	require.False(t, w.published[first].Retired.IsZero())
	second := w.signing
	require.NoError(t, w.step(k))
	w.run()
	require.Equal(t, second, w.signing, "also after a restart")
	require.Len(t, w.used, 2)
}

// Whatever step of a rotation is the last one before a crash, the next start goes on with it: the wish is served,
// once, and no moment sees a key in use that anybody does not know.
func TestRotationGoesOnAfterACrashAtAnyStep(t *testing.T) {
	for name, strike := range map[string]func(*keyWorld){
		"before publishing":             func(w *keyWorld) { w.crash["publish"] = true },
		"published, answer lost":        func(w *keyWorld) { w.lost["publish"] = true },
		"before everybody knows":        func(w *keyWorld) { w.crash["await"] = true },
		"everybody knows":               func(w *keyWorld) { w.lost["await"] = true },
		"in the file, not in use":       func(w *keyWorld) { w.crash["use"] = true },
		"in use, its own file not gone": func(w *keyWorld) { w.lost["use"] = true },
		"before retiring":               func(w *keyWorld) { w.crash["retire"] = true },
		"retired, answer lost":          func(w *keyWorld) { w.lost["retire"] = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newKeyWorld(t)
			k := w.run()
			w.index++
			w.wish = w.index
			strike(w)
			require.Error(t, w.step(k))
			require.Empty(t, w.crash)
			require.Empty(t, w.lost)

			w.run()

			w.settled()
			require.Len(t, w.published, 2, "one new key was made")
			require.Len(t, w.used, 2)
		})
	}
}

func TestStepThatFailsIsTriedAgainWithoutARestart(t *testing.T) {
	w := newKeyWorld(t)
	k := w.run()
	w.index++
	w.wish = w.index
	for _, effect := range []string{"publish", "await", "retire"} {
		w.crash[effect] = true
		require.Error(t, w.step(k))
		require.NotEmpty(t, w.signing, "one key or the other signs all the time")
	}
	require.NoError(t, w.step(k))
	w.settled()
	require.Len(t, w.published, 2)
}

func TestScheduledTokenKeyIsPublishedAtHalfLifeAndUsedAtTheEnd(t *testing.T) {
	w := newKeyWorld(t)
	w.period = time.Hour
	k := w.run()
	first := w.signing

	w.time = w.time.Add(time.Hour/2 - time.Millisecond)
	require.NoError(t, w.step(k))
	require.Len(t, w.published, 1)

	w.time = w.time.Add(time.Millisecond)
	require.NoError(t, w.step(k))
	require.Len(t, w.published, 2, "verifiers hear of the next key early")
	require.Equal(t, first, w.signing)
	require.FileExists(t, w.path+nextSuffix)

	k = w.run() // a restart makes no third
	require.Len(t, w.published, 2)
	require.Equal(t, first, w.signing)

	w.time = w.time.Add(time.Hour / 2)
	require.NoError(t, w.step(k))
	w.settled()
	require.Len(t, w.published, 2)
	require.NotEqual(t, first, w.signing)

	w.time = w.time.Add(time.Hour/2 - time.Millisecond)
	require.NoError(t, w.step(k))
	require.Len(t, w.published, 2, "its time counts from its first use")
	w.time = w.time.Add(time.Hour)
	require.NoError(t, w.step(k))
	w.settled()
	require.Len(t, w.used, 3)
}

func TestWithoutAScheduleATokenKeyStays(t *testing.T) {
	w := newKeyWorld(t)
	k := w.run()
	w.time = w.time.Add(10 * 365 * 24 * time.Hour)
	require.NoError(t, w.step(k))
	require.Len(t, w.published, 1)
}

func TestWishIsNotServedWithAKeyFromBeforeIt(t *testing.T) {
	w := newKeyWorld(t)
	w.period = time.Hour
	k := w.run()
	w.time = w.time.Add(time.Hour / 2)
	require.NoError(t, w.step(k))
	prepared := k.next.KID()
	w.index++
	w.wish = w.index

	require.NoError(t, w.step(k))

	w.settled()
	require.NotContains(t, w.used, prepared, "whoever wished for a new key may have had reason to distrust the folder")
	require.False(t, w.published[prepared].Retired.IsZero())
}

func TestRevokedTokenKeyIsReplacedAtOnceAndSignsNothingMeanwhile(t *testing.T) {
	w := newKeyWorld(t)
	w.period = time.Hour
	k := w.run()
	first := w.signing
	w.time = w.time.Add(time.Hour / 2)
	require.NoError(t, w.step(k))
	prepared := k.next.KID()

	// The news comes by gossip first.
	w.denied[first] = true
	require.ErrorContains(t, w.step(k), "not committed yet")
	require.Empty(t, w.signing)
	require.False(t, k.inUse.Load())

	// Then by the log, which drops the key.
	w.index++
	w.revoked[first] = w.index
	delete(w.published, first)
	w.crash["await"] = true
	require.Error(t, w.step(k))
	require.Empty(t, w.signing, "nothing is signed until the new key is known everywhere")

	w.run()
	w.settled()
	require.NotEqual(t, first, w.signing)
	require.NotEqual(t, prepared, w.signing, "a key that lay beside a stolen one is not used either")
}

func TestDenyThatIsNeverCommittedOnlyPausesTheTokenKey(t *testing.T) {
	w := newKeyWorld(t)
	k := w.run()
	first := w.signing
	w.denied[first] = true
	require.Error(t, w.step(k))
	require.Empty(t, w.signing)

	delete(w.denied, first) // it ran out
	require.NoError(t, w.step(k))
	require.Equal(t, first, w.signing)
	require.Len(t, w.published, 1)
}

func TestNextTokenKeyThatIsRevokedIsNotUsed(t *testing.T) {
	w := newKeyWorld(t)
	w.period = time.Hour
	k := w.run()
	w.time = w.time.Add(time.Hour / 2)
	require.NoError(t, w.step(k))
	bad := k.next.KID()
	w.index++
	w.revoked[bad] = w.index
	delete(w.published, bad)
	w.time = w.time.Add(time.Hour / 2)

	require.NoError(t, w.step(k))

	w.settled()
	require.NotContains(t, w.used, bad)
}

// A node that was away while its key was revoked, and for longer than the cluster remembers revocations of keys,
// must not bring the key back.
func TestTokenKeyThatWasDroppedDoesNotComeBack(t *testing.T) {
	w := newKeyWorld(t)
	w.run()
	first := w.signing
	delete(w.published, first)
	w.index += 1000

	w.run()

	w.settled()
	require.NotEqual(t, first, w.signing)
	require.NotContains(t, w.published, first)
}

func TestOldTokenKeyFileThatIsPutBackDoesNotSign(t *testing.T) {
	w := newKeyWorld(t)
	k := w.run()
	first := w.signing
	old, err := os.ReadFile(w.path)
	require.NoError(t, err)
	w.index++
	w.wish = w.index
	require.NoError(t, w.step(k))
	require.NoError(t, os.WriteFile(w.path, old, 0o600))

	w.run()

	w.settled()
	require.NotEqual(t, first, w.signing, "it is retired: what it signed would be forgotten with it")
}

func TestLostTokenKeyFileIsReplacedAndItsKeyRetired(t *testing.T) {
	w := newKeyWorld(t)
	w.run()
	first := w.signing
	require.NoError(t, os.Remove(w.path))

	w.run()

	w.settled()
	require.NotEqual(t, first, w.signing)
}
