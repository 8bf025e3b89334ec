package outbound

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

const keysURL = "https://issuer.example/jwks"

func keysSource() Source { return Source{JWKSURI: keysURL} }

func TestDocumentIsRefreshedBeforeItsTimeIsOver(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFar()
		f.serve(keysURL, "old", "600")
		k, _ := running(t, f)
		requireText(t, "old", k, keysSource())
		f.set(keysURL, func(context.Context) (*Response, error) {
			time.Sleep(4 * time.Second) // slow, but there
			return &Response{Body: []byte("new"), Header: map[string][]string{"Cache-Control": {"max-age=600"}}}, nil
		})
		time.Sleep(479 * time.Second)
		require.Equal(t, 1, f.count(keysURL))
		requireText(t, "old", k, keysSource())
		time.Sleep(6 * time.Second)
		require.Equal(t, 2, f.count(keysURL))
		began := time.Now()
		requireText(t, "new", k, keysSource())
		for range 120 { // two hours
			time.Sleep(time.Minute)
			require.False(t, requireText(t, "new", k, keysSource()).Stale)
		}
		require.Equal(t, 2*time.Hour, time.Since(began), "no caller ever waited")
		require.InDelta(t, 2+7200/480, f.count(keysURL), 1)
	})
}

func TestLifetimeOfADocumentIsBounded(t *testing.T) {
	for maxAge, want := range map[string]time.Duration{"0": time.Minute, "30": time.Minute, "600": 10 * time.Minute, "999999999": time.Hour} {
		virtualtime.Test(t, func(t *testing.T) {
			f := newFar()
			f.serve(keysURL, "keys", maxAge)
			k, _ := running(t, f)
			requireText(t, "keys", k, keysSource())
			time.Sleep(want*8/10 - time.Second)
			require.Equal(t, 1, f.count(keysURL))
			time.Sleep(2 * time.Second)
			require.Equal(t, 2, f.count(keysURL))
		})
	}
}

func TestOutageIsBridgedForADayAndNoLonger(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFar()
		f.serve(keysURL, "keys", "3600")
		k, _ := running(t, f)
		fetched := requireText(t, "keys", k, keysSource()).FetchedAt
		f.fail(keysURL, &Error{Kind: KindConnect, Host: "issuer.example", Err: errors.New("connection refused")})
		for time.Since(fetched) < MaxStale {
			before := time.Now()
			doc := requireText(t, "keys", k, keysSource())
			require.Zero(t, time.Since(before), "nobody waits for a source that is down")
			require.Equal(t, time.Since(fetched) >= time.Hour, doc.Stale)
			time.Sleep(min(time.Minute, MaxStale-time.Since(fetched)))
		}
		requireText(t, "keys", k, keysSource())
		time.Sleep(time.Second)
		before := time.Now()
		_, err := k.Get(t.Context(), keysSource())
		requireKind(t, err, KindConnect)
		require.Zero(t, time.Since(before))
		require.Less(t, f.count(keysURL), 24*60/2, "asked every two and a half minutes at most")
		require.Greater(t, f.count(keysURL), 24*60/6)

		f.serve(keysURL, "keys again", "3600")
		time.Sleep(maxBackoff)
		require.False(t, requireText(t, "keys again", k, keysSource()).Stale)
	})
}

func TestFailuresAreRepeatedLessAndLess(t *testing.T) {
	for name, tc := range map[string]struct {
		jitter func(time.Duration) time.Duration
		err    error
		waits  []time.Duration
	}{
		"shortest":                {func(time.Duration) time.Duration { return 0 }, &Error{Kind: KindStatus, Status: 500}, []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 150, 150}},
		"longest":                 {func(n time.Duration) time.Duration { return n }, &Error{Kind: KindStatus, Status: 500}, []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 300, 300}},
		"as asked":                {func(time.Duration) time.Duration { return 0 }, &Error{Kind: KindStatus, Status: 503, RetryAfter: time.Minute}, []time.Duration{60, 60, 60, 60, 60, 60, 64, 128, 150}},
		"as asked, within bounds": {func(time.Duration) time.Duration { return 0 }, &Error{Kind: KindStatus, Status: 503, RetryAfter: time.Hour}, []time.Duration{300, 300}},
	} {
		t.Run(name, func(t *testing.T) {
			virtualtime.Test(t, func(t *testing.T) {
				f := newFar()
				f.fail(keysURL, tc.err)
				k, stop := running(t, f, func(o *KeySourceOptions[string]) { o.Jitter = tc.jitter })
				_, err := k.Get(t.Context(), keysSource())
				require.ErrorIs(t, err, tc.err)
				time.Sleep(30 * time.Minute)
				stop()
				times := f.times(keysURL)
				for i, wait := range tc.waits {
					require.Equal(t, wait*time.Second, times[i+1].Sub(times[i]), "wait %d", i)
				}
			})
		})
	}
}

func TestSourceThatIsDownAnswersAtOnce(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFar()
		f.hang(keysURL)
		k, _ := running(t, f)
		began := time.Now()
		_, err := k.Get(t.Context(), keysSource())
		requireKind(t, err, KindTimeout)
		require.Equal(t, maxWait, time.Since(began), "a caller waits no longer than that")
		time.Sleep(DefaultTimeout - maxWait)
		virtualtime.Wait()
		began = time.Now()
		for range 1000 {
			_, err = k.Get(t.Context(), keysSource())
			requireKind(t, err, KindTimeout)
			_, err = k.Newer(t.Context(), keysSource(), Document[string]{URL: keysURL})
			requireKind(t, err, KindTimeout)
		}
		require.Zero(t, time.Since(began))
		require.Equal(t, 1, f.count(keysURL), "and it is left alone for a while")
	})
}

func TestCallerWhoGivesUpLeavesTheOthersTheAnswer(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFar()
		f.set(keysURL, func(context.Context) (*Response, error) {
			time.Sleep(2 * time.Second)
			return &Response{Body: []byte("keys")}, nil
		})
		k, _ := running(t, f)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := k.Get(ctx, keysSource())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		requireText(t, "keys", k, keysSource())
		require.Equal(t, 1, f.count(keysURL))
	})
}

func TestWaitingCallersAreBounded(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFar()
		f.hang(keysURL)
		f.set("https://other.example/jwks", func(context.Context) (*Response, error) {
			time.Sleep(time.Second)
			return &Response{Body: []byte("other")}, nil
		})
		k, _ := running(t, f)
		results := make(chan error, 1000)
		for range 1000 {
			go func() {
				_, err := k.Get(t.Context(), keysSource())
				results <- err
			}()
		}
		virtualtime.Wait()
		require.Len(t, results, 1000-maxWaiting)
		for range 1000 - maxWaiting {
			require.ErrorIs(t, <-results, ErrBusy)
		}
		requireText(t, "other", k, Source{JWKSURI: "https://other.example/jwks"})
		for range maxWaiting {
			requireKind(t, <-results, KindTimeout)
		}
		require.Equal(t, 1, f.count(keysURL))

		// Many sources that hang at the same time.
		for i := range 2 * maxWaitingAll {
			url := fmt.Sprintf("https://%d.example/jwks", i%8)
			f.hang(url)
			go func() {
				_, err := k.Get(t.Context(), Source{JWKSURI: url})
				results <- err
			}()
		}
		virtualtime.Wait()
		require.Len(t, results, maxWaitingAll)
		for range maxWaitingAll {
			require.ErrorIs(t, <-results, ErrBusy)
		}
		for range maxWaitingAll {
			requireKind(t, <-results, KindTimeout)
		}
	})
}

func TestUnknownKeyHasTheSourceAskedAtMostEveryThirtySeconds(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFar()
		f.serve(keysURL, "old", "3600")
		k, _ := running(t, f)
		doc := requireText(t, "old", k, keysSource())
		_, err := k.Newer(t.Context(), keysSource(), doc)
		require.ErrorIs(t, err, ErrUnchanged, "it was asked this moment")
		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			time.Sleep(100 * time.Millisecond)
			if newer, err := k.Newer(t.Context(), keysSource(), doc); err == nil {
				doc = newer
			} else {
				require.ErrorIs(t, err, ErrUnchanged)
			}
		}
		require.Equal(t, 1+10*2, f.count(keysURL))

		time.Sleep(askAgain)
		f.serve(keysURL, "new", "3600")
		newer, err := k.Newer(t.Context(), keysSource(), doc)
		require.NoError(t, err)
		require.Equal(t, "new", newer.Value)
		again, err := k.Newer(t.Context(), keysSource(), doc)
		require.NoError(t, err)
		require.Equal(t, "new", again.Value, "who holds an older document gets the newer one without asking")
		requireText(t, "new", k, keysSource())

		time.Sleep(askAgain)
		f.fail(keysURL, &Error{Kind: KindConnect})
		_, err = k.Newer(t.Context(), keysSource(), newer)
		requireKind(t, err, KindConnect)
		_, err = k.Newer(t.Context(), keysSource(), newer)
		requireKind(t, err, KindConnect)
		requireText(t, "new", k, keysSource())
	})
}

func TestDocumentThatNobodyWantsIsForgotten(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFar()
		f.serve(keysURL, "keys", "3600")
		k, _ := running(t, f)
		requireText(t, "keys", k, keysSource())
		time.Sleep(idleAfter + 2*time.Minute)
		require.Empty(t, k.Status())
		asked := f.count(keysURL)
		time.Sleep(24 * time.Hour)
		require.Equal(t, asked, f.count(keysURL))
		requireText(t, "keys", k, keysSource())
	})
}

func TestNumberOfDocumentsIsBoundedAndSoIsTheRateOfFetches(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFar()
		source := func(i int) Source { return Source{JWKSURI: fmt.Sprintf("https://%d.example/jwks", i)} }
		for i := range 2 * maxDocuments {
			f.serve(source(i).JWKSURI, "keys", "3600")
		}
		k, _ := running(t, f)
		for i := range maxDocuments {
			requireText(t, "keys", k, source(i))
		}
		_, err := k.Get(t.Context(), source(maxDocuments))
		require.ErrorIs(t, err, ErrFull, "all were asked a moment ago")
		time.Sleep(askAgain)
		for i := range maxDocuments - 1 {
			time.Sleep(time.Millisecond)
			requireText(t, "keys", k, source(i)) // but for the last
		}
		requireText(t, "keys", k, source(maxDocuments))
		require.Len(t, k.Status(), maxDocuments)
		for i := range maxDocuments - 1 {
			requireText(t, "keys", k, source(i))
			require.Equal(t, 1, f.count(source(i).JWKSURI), "what is in use stays")
		}

		// Callers in the worst order: each wants what was just dropped.
		total := func() (n int) {
			for i := range 2 * maxDocuments {
				n += f.count(source(i).JWKSURI)
			}
			return n
		}
		began, before := time.Now(), total()
		for time.Since(began) < 3*time.Minute {
			for i := range 2 * maxDocuments {
				if _, err := k.Get(t.Context(), source(i)); err != nil {
					require.ErrorIs(t, err, ErrFull)
				}
			}
			time.Sleep(10 * time.Second)
		}
		require.LessOrEqual(t, total()-before, (1+3*2)*maxDocuments)
		require.Greater(t, total()-before, maxDocuments)
	})
}

func TestFetchesAtTheSameTimeAreBounded(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFar()
		under := make(chan struct{}, maxDocuments)
		for i := range 100 {
			f.set(fmt.Sprintf("https://%d.example/jwks", i), func(context.Context) (*Response, error) {
				under <- struct{}{}
				time.Sleep(time.Second)
				<-under
				return &Response{Body: []byte("keys")}, nil
			})
		}
		k, _ := running(t, f)
		for i := range 100 {
			go func() { _, _ = k.Get(t.Context(), Source{JWKSURI: fmt.Sprintf("https://%d.example/jwks", i)}) }()
		}
		virtualtime.Wait()
		require.Len(t, under, maxFetches)
		time.Sleep(10 * time.Second)
		require.Len(t, k.Status(), 100)
		for _, s := range k.Status() {
			require.NoError(t, s.Err)
		}
	})
}

func TestRetainDropsWhatIsNoLongerConfigured(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFar()
		f.serve(keysURL, "direct", "3600")
		for _, issuer := range []string{"https://a.example", "https://b.example"} {
			f.serve(wellKnown(issuer), `{"issuer":"`+issuer+`","jwks_uri":"`+issuer+`/keys"}`, "3600")
			f.serve(issuer+"/keys", issuer, "3600")
		}
		k, _ := running(t, f)
		a, b := Source{Issuer: "https://a.example"}, Source{Issuer: "https://b.example"}
		requireText(t, "direct", k, keysSource())
		requireText(t, a.Issuer, k, a)
		requireText(t, b.Issuer, k, b)
		require.Len(t, k.Status(), 5)
		k.Retain(func(s Source) bool { return s == b })
		var left []Source
		for _, s := range k.Status() {
			left = append(left, s.Source)
		}
		require.ElementsMatch(t, []Source{b, {JWKSURI: "https://b.example/keys"}}, left)
		requireText(t, a.Issuer, k, a)
		require.Equal(t, 2, f.count(wellKnown(a.Issuer)), "what was dropped is fetched anew")
		require.Equal(t, 1, f.count(wellKnown(b.Issuer)))
	})
}

func TestRunEndsWithItsContextAlsoInTheMiddleOfAFetch(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFar()
		f.serve(keysURL, "keys", "3600")
		f.hang("https://slow.example/jwks")
		k, stop := running(t, f)
		requireText(t, "keys", k, keysSource())
		waited := make(chan error, 1)
		go func() {
			_, err := k.Get(t.Context(), Source{JWKSURI: "https://slow.example/jwks"})
			waited <- err
		}()
		virtualtime.Wait()
		began := time.Now()
		stop()
		require.ErrorIs(t, <-waited, ErrStopped)
		require.Zero(t, time.Since(began))
		requireText(t, "keys", k, keysSource())
		_, err := k.Get(t.Context(), Source{JWKSURI: "https://new.example/jwks"})
		require.ErrorIs(t, err, ErrStopped)
		time.Sleep(48 * time.Hour)
		_, err = k.Get(t.Context(), keysSource())
		require.ErrorIs(t, err, ErrStopped)
	})
}

func TestWithoutRunDocumentsAreFetchedOnDemand(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		f := newFar()
		f.serve(keysURL, "old", "600")
		k := sourceOf(t, f)
		requireText(t, "old", k, keysSource())
		f.serve(keysURL, "new", "600")
		time.Sleep(9 * time.Minute)
		requireText(t, "old", k, keysSource()) // and asks for the next caller
		virtualtime.Wait()
		requireText(t, "new", k, keysSource())
		f.serve(keysURL, "newest", "600")
		time.Sleep(time.Hour) // nothing was done meanwhile, as in a machine that was suspended
		requireText(t, "newest", k, keysSource())
		f.hang(keysURL)
		time.Sleep(time.Hour)
		began := time.Now()
		require.True(t, requireText(t, "newest", k, keysSource()).Stale)
		require.Equal(t, maxWait, time.Since(began), "one caller tries")
		time.Sleep(DefaultTimeout)
		began = time.Now()
		requireText(t, "newest", k, keysSource())
		require.Zero(t, time.Since(began))
		time.Sleep(DefaultTimeout) // the fetch ends by itself
	})
}

func TestAgeCountsByTheLargerClock(t *testing.T) {
	now := time.Now()
	require.Equal(t, time.Hour, age(now.Add(time.Hour), now))
	require.Zero(t, age(now.Add(-time.Hour), now), "a clock that was set back makes nothing younger than new")
	require.Equal(t, time.Hour, age(now.Round(0).Add(time.Hour), now), "time spent suspended counts")
	require.True(t, passed(now, now))
	require.False(t, passed(now, now.Add(1)))
}
