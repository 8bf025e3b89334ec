package api

import (
	"hash/maphash"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

const (
	limiterShards = 64
	// shardBuckets bounds a shard; 64 × 4096 callers at once is a quarter of a million, in about 16 MB.
	shardBuckets = 4096
	// evictionScan is how many buckets a full shard looks at for one that is of no more use.
	evictionScan = 16
)

// limiter holds a token bucket for each caller, in bounded memory. Callers are known by a keyed hash: two that
// collide share a bucket, and nobody outside can choose to collide.
type limiter struct {
	rate   float64 // requests per second
	burst  float64
	seed   maphash.Seed
	shards [limiterShards]limiterShard
}

type limiterShard struct {
	mu      sync.Mutex
	buckets map[uint64]bucket
	_       [40]byte // keeps neighbours off one cache line
}

type bucket struct {
	tokens float64
	at     time.Time
}

// newLimiter returns nil, which limits nobody, for a rate of 0.
func newLimiter(perSecond, burst int) *limiter {
	if perSecond <= 0 {
		return nil
	}
	if burst <= 0 {
		burst = 2 * perSecond
	}
	l := &limiter{rate: float64(perSecond), burst: float64(burst), seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].buckets = map[uint64]bucket{}
	}
	return l
}

// take spends one request of the caller's. It answers how many are left, and, where there was none, how long
// until there is one again.
func (l *limiter) take(caller uint64, now time.Time) (left float64, wait time.Duration) {
	s := &l.shards[caller%limiterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[caller]
	if !ok {
		if len(s.buckets) >= shardBuckets {
			l.evict(s, now)
		}
		b = bucket{tokens: l.burst, at: now}
	}
	b = l.refill(b, now)
	if b.tokens < 1 {
		s.buckets[caller] = b
		return b.tokens, time.Duration((1 - b.tokens) / l.rate * float64(time.Second))
	}
	b.tokens--
	s.buckets[caller] = b
	return b.tokens, 0
}

func (l *limiter) refill(b bucket, now time.Time) bucket {
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.tokens = min(l.burst, b.tokens+passed*l.rate)
		b.at = now
	}
	return b
}

// evict makes room: of a handful of buckets in random order, the fullest goes, as it has the least to forget.
func (l *limiter) evict(s *limiterShard, now time.Time) {
	var victim uint64
	fullest, seen := -1.0, 0
	for key, b := range s.buckets {
		if tokens := l.refill(b, now).tokens; tokens > fullest {
			victim, fullest = key, tokens
		}
		if seen++; seen >= evictionScan || fullest >= l.burst {
			break
		}
	}
	delete(s.buckets, victim)
}

// admit charges the request to its caller, or to the client's address where nobody has proved to be anybody.
// A forwarded request was charged where it came in.
func (a *API) admit(c *call) error {
	if a.limiter == nil || c.origin != nil {
		return nil
	}
	left, wait := a.limiter.take(a.limiter.key(c), a.Clock())
	h := &c.ctx.Response.Header
	h.Set(wire.HeaderRateLimit, strconv.Itoa(int(a.limiter.burst)))
	h.Set(wire.HeaderRateRemaining, strconv.Itoa(int(left)))
	full := time.Duration((a.limiter.burst - left) / a.limiter.rate * float64(time.Second))
	h.Set(wire.HeaderRateReset, strconv.FormatInt(a.Clock().Add(full).Unix()+1, 10))
	if wait == 0 {
		return nil
	}
	h.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(int(wait/time.Second)+1))
	return identity.Errorf(identity.CodeRateLimited, "this caller may make %d requests per second", int(a.limiter.rate)).
		WithHint("wait as long as Retry-After says")
}

// key tells callers apart: by kind and id, or by address.
func (l *limiter) key(c *call) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	switch {
	case c.caller.token != nil:
		_ = h.WriteByte('t')
	case c.caller.agent != nil:
		_ = h.WriteByte('a')
	case c.caller.application != nil:
		_ = h.WriteByte('p')
	case c.caller.user != nil:
		_ = h.WriteByte('u')
	default:
		_ = h.WriteByte('i')
		address := c.source.As16()
		// An IPv6 client has a whole /64 to itself.
		part := address[:]
		if c.source.Is6() && !c.source.Is4In6() {
			part = address[:8]
		}
		_, _ = h.Write(part)
	}
	_, _ = h.WriteString(c.caller.id())
	return h.Sum64()
}
